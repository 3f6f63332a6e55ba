//! Tokens of ipsecinit.conf (spec section 4.2): words separated by blanks, braces, comments from `#` to end of line.

use super::{Position, Problem};

/// Octets of one line, newline not counted. Solaris reads 1024; what it lists of rules with many actions is longer, and is
/// to load again.
pub const MAX_LINE: usize = 8192;

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Open,
    /// `}`
    Close,
    /// Anything else.
    Word,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Kind.
    pub kind: Kind,
    /// Text.
    pub text: &'a str,
    /// Position of its first character.
    pub at: Position,
    /// Offset of its first octet in the file.
    pub offset: usize,
    /// Whether nothing but blanks stands before it on its line.
    pub starts_line: bool,
}

/// Splits `text`. Lines over [`MAX_LINE`] octets are reported and left out.
pub fn tokens<'a>(text: &'a str, problems: &mut Vec<Problem>) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, raw) in text.split_inclusive('\n').enumerate() {
        let at = Position { line: number as u32 + 1, column: 1 };
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        if line.len() > MAX_LINE {
            problems.push(Problem::LineTooLong(at));
        } else {
            split_line(line.split('#').next().unwrap_or_default(), at.line, offset, &mut found);
        }
        offset += raw.len();
    }
    found
}

fn split_line<'a>(line: &'a str, number: u32, offset: usize, found: &mut Vec<Token<'a>>) {
    let mut starts_line = true;
    let mut word: Option<(usize, u32)> = None;
    let mut push = |kind, text: &'a str, start: usize, column| {
        let at = Position { line: number, column };
        found.push(Token { kind, text, at, offset: offset + start, starts_line });
        starts_line = false;
    };
    for (column, (start, c)) in (1u32..).zip(line.char_indices()) {
        let ends_word = c.is_whitespace() || c == '{' || c == '}';
        if !ends_word {
            word.get_or_insert((start, column));
            continue;
        }
        if let Some((first, column)) = word.take() {
            push(Kind::Word, line.get(first..start).unwrap_or_default(), first, column);
        }
        match c {
            '{' => push(Kind::Open, "{", start, column),
            '}' => push(Kind::Close, "}", start, column),
            _ => {}
        }
    }
    if let Some((first, column)) = word {
        push(Kind::Word, line.get(first..).unwrap_or_default(), first, column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_know_their_place() {
        let mut problems = Vec::new();
        let text = "# head\n  {laddr  ü/24} ipsec # tail {\n\t}x";
        let found = tokens(text, &mut problems);
        let seen: Vec<_> = found.iter().map(|t| (t.text, t.at.line, t.at.column, t.starts_line)).collect();
        assert_eq!(
            seen,
            [
                ("{", 2, 3, true),
                ("laddr", 2, 4, false),
                ("ü/24", 2, 11, false),
                ("}", 2, 15, false),
                ("ipsec", 2, 17, false),
                ("}", 3, 2, true),
                ("x", 3, 3, false),
            ]
        );
        assert!(found.iter().all(|t| text.get(t.offset..).unwrap().starts_with(t.text)));
        assert!(problems.is_empty());
    }

    #[test]
    fn long_lines_are_reported() {
        let mut problems = Vec::new();
        let text = format!("{{ }}\n{}\n{{", "x".repeat(MAX_LINE + 1));
        assert_eq!(tokens(&text, &mut problems).len(), 3);
        assert_eq!(problems, [Problem::LineTooLong(Position { line: 2, column: 1 })]);
    }
}
