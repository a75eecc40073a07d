//! The files in which torch's `@record` leaves exceptions (T-48), and the copy of the root cause's (T-49).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use serde_json::{Map, Value};

/// A file that is larger says nothing that a person would read.
const BYTES_MAX: u64 = 16 << 20;

/// What a rank wrote before it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// As the block shows it.
    pub(super) message: String,
    /// Seconds since the epoch.
    pub(super) timestamp: i64,
}

/// `None` where there is no file; an error where there is one that is not as `@record` writes it.
pub(super) fn read(path: &Path) -> Option<Result<Recorded, String>> {
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(error.to_string())),
        Ok(data) => Some(recorded(&data).ok_or_else(|| "it is not as torch's @record writes it".into())),
    }
}

fn load(path: &Path) -> io::Result<Map<String, Value>> {
    let file = File::open(path)?;
    // A folder or a device in its place is no error file.
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut text = Vec::new();
    if file.take(BYTES_MAX + 1).read_to_end(&mut text)? as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BYTES_MAX} bytes")));
    }
    Ok(serde_json::from_slice(&text)?)
}

fn recorded(data: &Map<String, Value>) -> Option<Recorded> {
    let message = data.get("message")?;
    if let Some(text) = message.as_str() {
        let timestamp = data.get("timestamp").map_or(Some(0), seconds)?;
        return Some(Recorded { message: text.into(), timestamp });
    }
    let extra = message.get("extraInfo")?;
    let text = extra.get("py_callstack").or_else(|| message.get("message")).map_or(Some("<N/A>"), Value::as_str)?;
    // Lines of a traceback are indented as the block is (TB-8).
    Some(Recorded { message: text.replace('\n', "\n  "), timestamp: extra.get("timestamp").and_then(seconds)? })
}

/// As Python's `int()` takes them: numbers, and numbers in quotes.
fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => crate::command_line::whole(text).ok(),
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|real| real as i64)),
        _ => None,
    }
}

/// Copies an error file to the launcher's own, with the exit code of the rank unless the message is a plain text.
pub fn copy_with_code(from: &Path, to: &Path, code: i32) -> io::Result<()> {
    let mut data = load(from)?;
    if let Some(Value::Object(message)) = data.get_mut("message") {
        message.insert("errorCode".into(), code.into());
    }
    let mut text = Vec::new();
    data.serialize(&mut Serializer::with_formatter(&mut text, AsPython))?;
    std::fs::write(to, text)
}

/// As Python's `json.dumps` writes: blanks behind commas and colons, ASCII alone.
struct AsPython;

impl Formatter for AsPython {
    fn begin_array_value<Out: Write + ?Sized>(&mut self, out: &mut Out, is_first: bool) -> io::Result<()> {
        out.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_key<Out: Write + ?Sized>(&mut self, out: &mut Out, is_first: bool) -> io::Result<()> {
        out.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_value<Out: Write + ?Sized>(&mut self, out: &mut Out) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<Out: Write + ?Sized>(&mut self, out: &mut Out, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() && character != '\x7f' {
                write!(out, "{character}")?;
            } else if character == '\x7f' {
                out.write_all(b"\x7f")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<Out: Write + ?Sized>(&mut self, out: &mut Out, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => out.write_all(b"\\\\"),
            CharEscape::Solidus => out.write_all(b"/"),
            CharEscape::Backspace => out.write_all(b"\\b"),
            CharEscape::FormFeed => out.write_all(b"\\f"),
            CharEscape::LineFeed => out.write_all(b"\\n"),
            CharEscape::CarriageReturn => out.write_all(b"\\r"),
            CharEscape::Tab => out.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(out, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Result<Recorded, String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("error.json");
        std::fs::write(&path, text).expect("a file");
        read(&path)
    }

    #[test]
    fn messages_are_tracebacks_texts_or_missing() {
        for (text, message, timestamp) in [
            (
                r#"{"message":{"message":"E: x","extraInfo":{"py_callstack":"a\nb\n","timestamp":"17"}}}"#,
                "a\n  b\n  ",
                17,
            ),
            (r#"{"message":{"message":"E: x","extraInfo":{"timestamp":17}}}"#, "E: x", 17),
            (r#"{"message":{"extraInfo":{"timestamp":17.9}}}"#, "<N/A>", 17),
            (r#"{"message":"out of\nmemory"}"#, "out of\nmemory", 0),
            (r#"{"message":"x","timestamp":"5"}"#, "x", 5),
        ] {
            assert_eq!(of(text), Some(Ok(Recorded { message: message.into(), timestamp })), "{text}");
        }
    }

    #[test]
    fn files_that_are_something_else_are_errors_and_missing_ones_are_not() {
        for text in ["", "{", "[]", "{}", r#"{"message":{}}"#, r#"{"message":7}"#, r#"{"message":"x","timestamp":"y"}"#]
        {
            assert!(matches!(of(text), Some(Err(_))), "{text}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(&folder.path().join("none")), None);
        assert_eq!(read(folder.path()), None);
    }

    #[test]
    fn the_copy_has_the_exit_code_and_pythons_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for (text, copied) in [
            (
                r#"{"message":{"message":"é😀\u0001\"","extraInfo":{"b":[1,2.5],"a":null}}}"#,
                r#"{"message": {"message": "\u00e9\ud83d\ude00\u0001\"", "extraInfo": {"b": [1, 2.5], "a": null}, "errorCode": -9}}"#,
            ),
            (r#"{"message":"x"}"#, r#"{"message": "x"}"#),
        ] {
            std::fs::write(&from, text).expect("a file");
            copy_with_code(&from, &to, -9).expect("a copy");
            assert_eq!(std::fs::read_to_string(&to).expect("a copy"), copied);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes);
            proptest::prop_assert!(of(&text).is_some());
            let _ = of(&format!("{{\"message\":{text:?}}}"));
        }
    }
}
