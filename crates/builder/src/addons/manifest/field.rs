//! Fields of objects, with their types: what has another one is an error, or it would be passed over in silence.

use serde_json::Value;

/// A field, which may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Field<'v> {
    pub name: &'static str,
    pub value: &'v Value,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    #[error("it has no {field}")]
    Missing { field: String },
    #[error("`{field}` is no {expected}")]
    Type { field: &'static str, expected: &'static str },
    #[error("`{field}` is a template that nobody has filled in: `{value}`")]
    Template { field: &'static str, value: String },
}

impl<'v> Field<'v> {
    /// Empty where the field is missing.
    pub fn list(self) -> Result<&'v [Value], FieldProblem> {
        match self.value {
            Value::Null => Ok(&[]),
            Value::Array(items) => Ok(items),
            _ => Err(self.wrong("list")),
        }
    }

    pub fn table(self) -> Result<Option<&'v Value>, FieldProblem> {
        match self.value {
            Value::Null => Ok(None),
            Value::Object(_) => Ok(Some(self.value)),
            _ => Err(self.wrong("table")),
        }
    }

    pub fn text(self) -> Result<Option<&'v str>, FieldProblem> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) if text.contains("{{") => {
                Err(FieldProblem::Template { field: self.name, value: text.chars().take(60).collect() })
            }
            Value::String(text) => Ok(Some(text)),
            _ => Err(self.wrong("string")),
        }
    }

    pub fn flag(self) -> Result<Option<bool>, FieldProblem> {
        match self.value {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(self.wrong("boolean")),
        }
    }

    fn wrong(self, expected: &'static str) -> FieldProblem {
        FieldProblem::Type { field: self.name, expected }
    }
}
