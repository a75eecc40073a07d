//! Which members of a sample are delivered, and as what.

use serde::{Deserialize, Serialize};

use super::name;
use crate::{Error, Result};

/// The name under which the key of a sample can be asked for.
pub const KEY: &str = "__key__";

/// One field: which member it is made of, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberField {
    /// The name it is delivered by.
    pub name: String,
    /// Extensions, of which the first that a sample has is taken; or `__key__` alone.
    pub members: Vec<String>,
    pub decode: Decode,
}

/// How the bytes of a member become a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// A whole number in decimal text: int64.
    Int,
    /// A number in decimal text: float64.
    Float,
    /// UTF-8.
    Text,
    /// A JSON document in UTF-8.
    Json,
    /// As they are.
    Bytes,
    /// An array as `numpy.save` writes it, of one shape and type in all samples.
    Npy,
    /// A picture, through transforms that the facade knows.
    Image(serde_json::Value),
}

impl Decode {
    /// The name that goes into fingerprints; what a picture goes through describes itself.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Decode::Int => "int",
            Decode::Float => "float",
            Decode::Text => "text",
            Decode::Json => "json",
            Decode::Bytes => "bytes",
            Decode::Npy => "npy",
            Decode::Image(_) => "image",
        }
    }
}

impl MemberField {
    pub(super) fn is_key(&self) -> bool {
        self.members.iter().any(|member| member == KEY)
    }
}

/// Errors: no field, a name twice, or a decoder that does not fit the member.
pub(super) fn check(fields: &[MemberField]) -> Result<()> {
    if fields.is_empty() {
        return Err(Error::invalid("fields is empty: name at least one, such as {\"jpg\": bytes}"));
    }
    for (place, field) in fields.iter().enumerate() {
        let refused = |why: String| Err(Error::invalid(why).in_field(&field.name));
        if fields[..place].iter().any(|other| other.name == field.name) {
            return refused("the field is named twice".into());
        }
        if field.members.is_empty() {
            return refused("the field names no member".into());
        }
        if field.is_key() && (field.members.len() > 1 || field.decode != Decode::Text) {
            return refused(format!("{KEY} is the text of the key, and stands alone: {{\"{KEY}\": str}}"));
        }
        if let Some(member) = field.members.iter().find(|member| is_pickled(member))
            && field.decode != Decode::Bytes
        {
            return refused(pickled(member));
        }
    }
    Ok(())
}

/// Fields for every member of a sample, by what its extension is used for.
pub(super) fn default_fields(extensions: &[String]) -> Result<Vec<MemberField>> {
    let field = |extension: &String| {
        let decode = match last_part(extension) {
            "cls" | "cls2" | "class" | "count" | "index" | "inx" | "id" => Decode::Int,
            "txt" | "text" | "transcript" => Decode::Text,
            "json" | "jsn" => Decode::Json,
            "npy" => Decode::Npy,
            _ if is_pickled(extension) => return Err(Error::unsupported(pickled(extension)).in_field(extension)),
            _ => Decode::Bytes,
        };
        Ok(MemberField { name: extension.clone(), members: vec![extension.clone()], decode })
    };
    extensions.iter().map(field).collect()
}

fn last_part(extension: &str) -> &str {
    extension.rsplit('.').next().unwrap_or(extension)
}

/// Pickles run programs when they are read.
fn is_pickled(extension: &str) -> bool {
    matches!(last_part(&name::lower(extension.as_bytes())), "pkl" | "pickle" | "pyd" | "pt" | "pth")
}

fn pickled(extension: &str) -> String {
    format!(
        "{extension:?} members are pickles, which run whatever program they hold when they are read. Name the fields that \
         you want, or ask for the bytes: fields={{{extension:?}: bytes}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn field(name: &str, members: &[&str], decode: Decode) -> MemberField {
        MemberField { name: name.into(), members: members.iter().map(|&member| member.into()).collect(), decode }
    }

    #[test]
    fn fields_that_make_no_sense_are_refused_by_name() {
        let good = [field("k", &[KEY], Decode::Text), field("x", &["jpg", "png"], Decode::Bytes)];
        check(&good).unwrap();
        check(&[field("p", &["pkl"], Decode::Bytes)]).unwrap();
        for bad in [
            vec![],
            vec![field("x", &["a"], Decode::Int), field("x", &["b"], Decode::Int)],
            vec![field("x", &[], Decode::Int)],
            vec![field("x", &[KEY], Decode::Int)],
            vec![field("x", &[KEY, "a"], Decode::Text)],
            vec![field("x", &["a", "weights.PTH"], Decode::Npy)],
        ] {
            assert_eq!(check(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn extensions_tell_decoders() {
        let extensions = ["jpg", "seg.cls", "txt", "json", "npy"].map(str::to_owned);
        let found = default_fields(&extensions).unwrap();
        let decoders: Vec<&Decode> = found.iter().map(|field| &field.decode).collect();
        assert_eq!(decoders, [&Decode::Bytes, &Decode::Int, &Decode::Text, &Decode::Json, &Decode::Npy]);
        assert_eq!(default_fields(&["a.pyd".to_owned()]).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
