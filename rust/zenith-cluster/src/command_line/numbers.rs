//! Numbers as Python's `int()` and `float()` read them: blanks around them and underscores between digits are fine.

/// The error text is that of `int()`.
pub(crate) fn whole(text: &str) -> Result<i64, String> {
    let refused = || format!("invalid literal for int() with base 10: '{text}'");
    digits(text.trim()).ok_or_else(refused)?.parse().map_err(|_| refused())
}

pub(crate) fn real(text: &str) -> Option<f64> {
    digits(text.trim())?.parse().ok()
}

/// Without underscores; `None` if one does not stand between two digits.
fn digits(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let stray = |at: usize| bytes[at] == b'_' && !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)));
    (!(0..bytes.len()).any(stray)).then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_those_of_python() {
        for (text, number) in [("7", 7), (" -1 ", -1), ("+3", 3), ("1_000", 1000), ("007", 7)] {
            assert_eq!(whole(text), Ok(number), "{text:?}");
        }
        for text in ["", "x", "1__0", "_1", "1_", "1.0", "0x1", "- 1"] {
            assert_eq!(whole(text), Err(format!("invalid literal for int() with base 10: '{text}'")));
        }
    }

    #[test]
    fn real_numbers_are_those_of_python() {
        for (text, number) in [("0.1", 0.1), ("1e3", 1000.0), (" .5", 0.5), ("1_0.5", 10.5), ("inf", f64::INFINITY)] {
            assert_eq!(real(text), Some(number), "{text:?}");
        }
        for text in ["", "x", "1_.5", "0.1s"] {
            assert_eq!(real(text), None, "{text:?}");
        }
    }
}
