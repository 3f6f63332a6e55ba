//! Rules of ipsecinit.conf as syntax (spec section 4.2): braces, keywords with their values, actions joined by `or`.
//!
//! A rule begins on a line of its own and may be broken inside braces, between its parts, and after `or`; `or` itself
//! follows the closing brace on the same line. (The manual page of Solaris forbids a break before the first action, which
//! one of its examples has.) After an error the parser goes on at the next line that looks
//! like the beginning of a rule.

use super::lexer::{Kind, Token};
use super::{Position, Problem};

/// Tokens between two braces.
pub const MAX_TOKENS: usize = 20;
/// Octets of the text of one rule: at least one line.
pub const MAX_RULE: usize = 8192;
/// Actions of one rule.
pub const MAX_ACTIONS: usize = sadb_maps::policy::MAX_ACTIONS;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $($text:literal)|+,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is its keyword")]
        pub enum $name { $($variant,)* }

        impl $name {
            /// The keyword with this spelling; keywords are case-sensitive.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($($text)|+ => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Keyword of a pattern.
    Pattern {
        SourceAddress = "saddr" | "src" | "srcaddr",
        DestinationAddress = "daddr" | "dst" | "dstaddr",
        SourceMask = "smask",
        DestinationMask = "dmask",
        SourcePort = "sport",
        DestinationPort = "dport",
        LocalAddress = "laddr" | "local",
        RemoteAddress = "raddr" | "remote",
        LocalPort = "lport",
        RemotePort = "rport",
        Protocol = "ulp" | "proto",
        IcmpType = "type",
        IcmpCode = "code",
        Tunnel = "tunnel",
        Negotiate = "negotiate",
        Direction = "dir",
    }
}

words! {
    /// Action word.
    Action {
        Apply = "apply",
        Permit = "permit",
        Ipsec = "ipsec",
        Pass = "pass" | "bypass",
        Drop = "drop",
    }
}

words! {
    /// Keyword of the properties of an action.
    Property {
        AuthAlgs = "auth_algs",
        EncrAlgs = "encr_algs",
        EncrAuthAlgs = "encr_auth_algs",
        Sa = "sa",
        Direction = "dir",
    }
}

/// A keyword and its value.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a, K> {
    /// Keyword.
    pub keyword: K,
    /// The keyword as typed.
    pub word: Token<'a>,
    /// Value.
    pub value: Token<'a>,
}

/// An action with its properties.
#[derive(Clone, Debug)]
pub struct ActionSyntax<'a> {
    /// Action.
    pub action: Action,
    /// The action as typed.
    pub word: Token<'a>,
    /// Properties.
    pub properties: Vec<Item<'a, Property>>,
}

/// One rule as syntax.
#[derive(Clone, Debug)]
pub struct RuleSyntax<'a> {
    /// Position of its first token.
    pub at: Position,
    /// Text as typed, comments inside it included.
    pub text: &'a str,
    /// Pattern.
    pub pattern: Vec<Item<'a, Pattern>>,
    /// At least one action, unless there were problems.
    pub actions: Vec<ActionSyntax<'a>>,
}

/// A rule and what is wrong with its syntax.
#[derive(Clone, Debug)]
pub struct ParsedRule<'a> {
    /// What was understood.
    pub syntax: RuleSyntax<'a>,
    /// Problems; empty for a rule that may be given a meaning.
    pub problems: Vec<Problem>,
}

/// Finds the rules in the tokens of `text`.
pub fn rules<'a>(text: &'a str, tokens: &[Token<'a>]) -> Vec<ParsedRule<'a>> {
    let mut cursor = Cursor { tokens, next: 0, problems: Vec::new() };
    let mut found = Vec::new();
    while let Some(first) = cursor.peek() {
        let start = cursor.next;
        let mut syntax = RuleSyntax { at: first.at, text: "", pattern: Vec::new(), actions: Vec::new() };
        if cursor.rule(&mut syntax).is_none() {
            cursor.recover(start);
        }
        syntax.text = cursor.text_since(text, first);
        if syntax.text.len() > MAX_RULE {
            cursor.problems.push(Problem::RuleTooLong(first.at));
        }
        found.push(ParsedRule { syntax, problems: std::mem::take(&mut cursor.problems) });
    }
    found
}

struct Cursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    next: usize,
    problems: Vec<Problem>,
}

impl<'a> Cursor<'_, 'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).copied()
    }

    fn last(&self) -> Option<Token<'a>> {
        self.next.checked_sub(1).and_then(|i| self.tokens.get(i)).copied()
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.next += 1;
        Some(token)
    }

    fn take_if(&mut self, want: impl FnOnce(&Token<'a>) -> bool) -> Option<Token<'a>> {
        let token = self.peek().filter(want)?;
        self.next += 1;
        Some(token)
    }

    /// Position to blame when something is missing: the token that stands in its place, or the last one.
    fn here(&self) -> Position {
        self.peek().or_else(|| self.last()).map_or(Position::default(), |t| t.at)
    }

    fn fail(&mut self, problem: Problem) -> Option<()> {
        self.problems.push(problem);
        None
    }

    /// One rule. `None` after a problem that leaves the place of the cursor in doubt.
    fn rule(&mut self, syntax: &mut RuleSyntax<'a>) -> Option<()> {
        let first = self.take()?;
        if first.kind != Kind::Open {
            return self
                .fail(Problem::Structure(format!("unexpected '{}'; a rule begins with '{{'", first.text), first.at));
        }
        if !first.starts_line {
            return self.fail(Problem::Structure("a rule begins on a line of its own".to_owned(), first.at));
        }
        syntax.pattern = self.section(Pattern::from_word, Problem::InvalidPattern)?;
        let mut close = self.last().map_or(first.at, |t| t.at);
        loop {
            syntax.actions.push(self.action(close, !syntax.actions.is_empty())?);
            close = self.last().map_or(close, |t| t.at);
            let Some(next) = self.take_if(|t| t.at.line == close.line) else { break };
            if next.text != "or" {
                let text = format!("unexpected '{}' after the rule; only 'or' or a comment may follow", next.text);
                return self.fail(Problem::Structure(text, next.at));
            }
            if syntax.actions.len() == MAX_ACTIONS {
                let text = format!("more than {MAX_ACTIONS} actions in one rule");
                return self.fail(Problem::Structure(text, next.at));
            }
        }
        Some(())
    }

    /// Action word and properties.
    fn action(&mut self, close: Position, after_or: bool) -> Option<ActionSyntax<'a>> {
        let Some(word) = self.take_if(|t| t.kind == Kind::Word) else {
            let at = if after_or { self.here() } else { close };
            self.problems.push(Problem::MissingAction(at));
            return None;
        };
        let action = Action::from_word(word.text);
        if action.is_none() {
            self.problems.push(Problem::InvalidAction(word.text.to_owned(), word.at));
        }
        if self.take_if(|t| t.kind == Kind::Open).is_none() {
            let text = format!("expected '{{' after '{}'", word.text);
            self.problems.push(Problem::IncompleteProperties(text, word.at));
            return None;
        }
        let properties = self.section(Property::from_word, Problem::InvalidProperty)?;
        Some(ActionSyntax { action: action?, word, properties })
    }

    /// What stands between two braces, the opening one taken already.
    fn section<K>(
        &mut self,
        keyword: impl Fn(&str) -> Option<K>,
        invalid: impl Fn(String, Position) -> Problem,
    ) -> Option<Vec<Item<'a, K>>> {
        let start = self.next;
        let mut items = Vec::new();
        loop {
            let Some(word) = self.take() else {
                let text = "a '{' is never closed".to_owned();
                let at = start.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(Position::default(), |t| t.at);
                self.problems.push(Problem::Structure(text, at));
                return None;
            };
            match word.kind {
                Kind::Close => break,
                Kind::Open => {
                    self.problems.push(invalid("{".to_owned(), word.at));
                    self.next -= 1;
                    return None;
                }
                Kind::Word => {}
            }
            let known = keyword(word.text);
            if known.is_none() {
                self.problems.push(invalid(word.text.to_owned(), word.at));
            }
            // The value of an unknown word is skipped with it, unless it is a keyword itself.
            match (known, self.peek().filter(|t| t.kind == Kind::Word)) {
                (Some(keyword), Some(value)) => {
                    self.next += 1;
                    items.push(Item { keyword, word, value });
                }
                (Some(_), None) => {
                    let text = format!("'{}' has no value", word.text);
                    self.problems.push(Problem::Structure(text, word.at));
                }
                (None, Some(value)) if keyword(value.text).is_none() => self.next += 1,
                (None, _) => {}
            }
        }
        if self.next - start > MAX_TOKENS + 1 {
            let more = self.tokens.get(start + MAX_TOKENS);
            self.problems.extend(more.map(|t| Problem::TooManyTokens(t.text.to_owned(), t.at)));
        }
        Some(items)
    }

    /// Moves to the next place where a rule may begin: a `{` that is first on its line and continues no action.
    fn recover(&mut self, start: usize) {
        while let Some(token) = self.peek() {
            let continues = self.last().is_some_and(|last| Action::from_word(last.text).is_some());
            if self.next > start && token.kind == Kind::Open && token.starts_line && !continues {
                return;
            }
            self.next += 1;
        }
    }

    /// The text from `first` to the last token taken.
    fn text_since(&self, text: &'a str, first: Token<'a>) -> &'a str {
        let end = self.last().map_or(first.offset, |t| t.offset + t.text.len());
        text.get(first.offset..end).unwrap_or_default()
    }
}
