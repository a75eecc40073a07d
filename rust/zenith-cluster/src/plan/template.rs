//! `${local_rank}` in arguments, by the rules of Python's `string.Template.safe_substitute`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names that are not among `values`, and a `$` that begins no name, stay as they are; `$$` is a `$`.
pub(crate) fn substitute(text: &OsStr, values: &[(&str, &str)]) -> OsString {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|&byte| byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        let behind = &rest[at + 1..];
        let value_of = |name: &[u8]| values.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, value)| *value);
        let (taken, value) = match behind.first() {
            Some(b'$') => (1, Some("$")),
            Some(b'{') => match identifier(&behind[1..]) {
                name if !name.is_empty() && behind.get(name.len() + 1) == Some(&b'}') => {
                    (name.len() + 2, value_of(name))
                }
                _ => (0, None),
            },
            _ => {
                let name = identifier(behind);
                (name.len(), value_of(name))
            }
        };
        match value {
            Some(value) => out.extend_from_slice(value.as_bytes()),
            None => out.extend_from_slice(&rest[at..=at + taken]),
        }
        rest = &behind[taken..];
    }
    out.extend_from_slice(rest);
    OsString::from_vec(out)
}

/// The longest start that is an ASCII identifier.
fn identifier(bytes: &[u8]) -> &[u8] {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match bytes.first() {
        Some(first) if is_inner(first) && !first.is_ascii_digit() => {
            let length = bytes.iter().take_while(|byte| is_inner(byte)).count();
            &bytes[..length]
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_as_python_does() {
        for (text, expected) in [
            ("--rank=${local_rank}", "--rank=3"),
            ("$local_rank", "3"),
            ("$local_rank.log", "3.log"),
            ("$local_ranks", "$local_ranks"),
            ("${local_ranks}x", "${local_ranks}x"),
            ("$$local_rank", "$local_rank"),
            ("$HOME $", "$HOME $"),
            ("${local_rank", "${local_rank"),
            ("${}$1", "${}$1"),
            ("$LOCAL_RANK", "$LOCAL_RANK"),
            ("", ""),
            ("a$local_rank$local_rank", "a33"),
        ] {
            assert_eq!(substitute(OsStr::new(text), &[("local_rank", "3")]), expected, "{text}");
        }
        let odd = OsStr::from_bytes(b"\xff$local_rank");
        assert_eq!(substitute(odd, &[("local_rank", "3")]).as_bytes(), b"\xff3");
    }
}
