//! Methods of services: `%{group/name}` in their arguments stands for the value of a property (smf_method(7)).

/// `argument` with every `%{NAME}` replaced by what `value` says for it. Values are not looked into again.
///
/// # Errors
/// The name that has no value, or what is behind an open brace.
pub fn expand<'v>(argument: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, String> {
    let mut expanded = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some((before, token)) = rest.split_once("%{") {
        let (name, behind) = token.split_once('}').ok_or_else(|| token.to_owned())?;
        expanded.push_str(before);
        expanded.push_str(value(name).ok_or_else(|| name.to_owned())?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_stand_for_values() {
        let value = |name: &str| match name {
            "config/a" => Some("/x y"),
            "config/b" => Some("%{config/a}"),
            _ => None,
        };
        assert_eq!(expand("-a", value).unwrap(), "-a");
        assert_eq!(expand("%{config/a}", value).unwrap(), "/x y");
        assert_eq!(expand("1%{config/a}2%{config/b}%3", value).unwrap(), "1/x y2%{config/a}%3");
        assert_eq!(expand("%{config/c}", value), Err("config/c".to_owned()));
        assert_eq!(expand("%{config/a", value), Err("config/a".to_owned()));
    }
}
