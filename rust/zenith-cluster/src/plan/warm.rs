//! `--warm`: whether there is to be a template, and what it imports.

use super::{Nodes, PlanError};
use crate::command_line::Options;

const DEFAULT: &str = "torch";

/// The modules of the template; `None` if there is none.
pub(super) fn modules(
    options: &Options,
    max_restarts: u32,
    nodes: Option<&Nodes>,
    notices: &mut Vec<String>,
) -> Result<Option<Vec<String>>, PlanError> {
    if !options.warm {
        return match &options.warm_modules {
            None => Ok(None),
            Some(_) => Err(PlanError::Value("--warm-modules is for --warm: give both, or neither".into())),
        };
    }
    let text = options.warm_modules.as_deref().unwrap_or(DEFAULT);
    let modules: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| {
        let is_part = |part: &str| {
            part.chars().all(|character| character.is_alphanumeric() || character == '_')
                && part.chars().next().is_some_and(|first| !first.is_numeric())
        };
        name.split('.').all(is_part)
    };
    if let Some(name) = modules.iter().find(|name| !is_name(name)) {
        return Err(PlanError::Value(format!(
            "--warm-modules: '{name}' is no name of a module. Give names such as torch,numpy"
        )));
    }
    let reason = if options.no_python {
        "with --no-python there is no interpreter that could be forked"
    } else if max_restarts == 0 && nodes.is_none() {
        "nothing is started anew without --max-restarts"
    } else {
        return Ok(Some(modules));
    };
    notices.push(format!("--warm is ignored: {reason}"));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(change: impl FnOnce(&mut Options), max_restarts: u32) -> (Result<Option<Vec<String>>, String>, String) {
        let mut options = Options { warm: true, ..Options::default() };
        change(&mut options);
        let mut notices = Vec::new();
        let modules = modules(&options, max_restarts, None, &mut notices).map_err(|error| error.to_string());
        (modules, notices.join("\n"))
    }

    #[test]
    fn torch_is_imported_if_nothing_else_is_named() {
        let none = String::new;
        assert_eq!(planned(|_| {}, 1), (Ok(Some(vec!["torch".into()])), none()));
        let named = planned(|o| o.warm_modules = Some("jax, a.b_2".into()), 1);
        assert_eq!(named, (Ok(Some(vec!["jax".into(), "a.b_2".into()])), none()));
        assert_eq!(planned(|o| o.warm = false, 1), (Ok(None), none()));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for text in ["", "torch,", "a b", "a-b", "a..b", "2a", "a:b", "a\0b"] {
            let (modules, _) = planned(|o| o.warm_modules = Some(text.into()), 1);
            assert!(modules.is_err_and(|error| error.contains("is no name of a module")), "{text:?}");
        }
        let (modules, _) = planned(|o| (o.warm, o.warm_modules) = (false, Some("torch".into())), 1);
        assert!(modules.is_err_and(|error| error.contains("give both")));
    }

    #[test]
    fn without_use_there_is_no_template() {
        let (modules, notice) = planned(|o| o.no_python = true, 1);
        assert_eq!(modules, Ok(None));
        assert!(notice.contains("--no-python"), "{notice}");
        let (modules, notice) = planned(|_| {}, 0);
        assert_eq!(modules, Ok(None));
        assert!(notice.contains("--max-restarts"), "{notice}");
    }
}
