//! One document of a file: its text, where it is, and what is wrong with it.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    blame::Fault,
    places::{self, Lines, Step, Steps},
};

/// A line of the file, and what is wrong there.
pub(super) type Wrong = (u64, String);

/// A document, and where it is.
pub(super) struct Document<'a> {
    /// Counts from 1.
    pub(super) number: usize,
    /// The line of its first content, counted from 1 in the file.
    pub(super) first_line: u64,
    /// The line where its text begins.
    base: u64,
    text: &'a str,
}

/// Cuts a file at its document markers. A line that begins with `---` is one wherever it stands: text
/// of a block scalar is indented.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut begins = vec![(0, 1)];
    let mut ends = Vec::new();
    let mut offset = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if is_marker(line) {
            ends.push(offset);
            // What follows a marker on its line is of the document.
            begins.push((offset + 3, number));
        }
        offset += line.len();
    }
    ends.push(text.len());
    begins
        .into_iter()
        .zip(ends)
        .filter_map(|((begin, base), end)| Some((base, text.get(begin..end)?)))
        .filter(|(_, text)| text.lines().any(is_content))
        .zip(1..)
        .map(|((base, text), number)| Document {
            number,
            first_line: base + text.lines().take_while(|line| !is_content(line)).count() as u64,
            base,
            text,
        })
        .collect()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .or_else(|| line.strip_prefix("..."))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

impl Document<'_> {
    /// The document as a tree; `None` if it is empty.
    pub(super) fn value(&self) -> Result<Option<Value>, Wrong> {
        match serde_saphyr::from_str::<Value>(self.text) {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.located(&error)),
        }
    }

    /// A part of the document as an object, and `at` is where that is. Types are as strict as in JSON, and every field
    /// is known.
    pub(super) fn typed<T: DeserializeOwned + Serialize>(
        &self,
        at: &[Step],
        value: &Value,
    ) -> Result<T, Fault> {
        let fault = |path: Vec<Step>, message| Fault {
            line: self.line_of(&[at, &path].concat()),
            path,
            message,
        };
        let object: T = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = places::steps(error.path());
            fault(path, error.into_inner().to_string())
        })?;
        let known =
            serde_json::to_value(&object).map_err(|error| fault(Vec::new(), error.to_string()))?;
        let mut path = Vec::new();
        if unknown(value, &known, &mut path) {
            let message = format!("unknown field {}", Steps(&path));
            return Err(Fault {
                line: self.line_of(&[at, &path].concat()),
                path: Vec::new(),
                message,
            });
        }
        Ok(object)
    }

    /// The line of a value, in the file.
    pub(super) fn line_of(&self, steps: &[Step]) -> u64 {
        if steps.is_empty() {
            return self.first_line;
        }
        let lines = Lines::of(self.text);
        lines.map_or(self.first_line, |lines| {
            self.base + lines.at(steps).saturating_sub(1)
        })
    }

    fn located(&self, error: &serde_saphyr::Error) -> Wrong {
        let line = error.location().map_or(1, |location| location.line());
        let text = error.without_snippet().to_string();
        // The location is told once, and by us.
        let message = text.split(" at line ").next().unwrap_or_default();
        let message = message.lines().next().unwrap_or_default();
        (self.base + line.saturating_sub(1), message.to_owned())
    }
}

/// Looks for a field that is in `given` and not in `known`: true, and where it is. A `null` and an empty
/// list say nothing: kinds may leave them out when they are written again.
fn unknown(given: &Value, known: &Value, path: &mut Vec<Step>) -> bool {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().any(|(name, value)| {
            path.push(Step::Field(name.clone()));
            let found = match known.get(name) {
                Some(known) => unknown(value, known, path),
                None => !says_nothing(value) && name != "stringData",
            };
            if !found {
                path.pop();
            }
            found
        }),
        (Value::Array(given), Value::Array(known)) => {
            given
                .iter()
                .zip(known)
                .enumerate()
                .any(|(index, (given, known))| {
                    path.push(Step::Item(index));
                    let found = unknown(given, known, path);
                    if !found {
                        path.pop();
                    }
                    found
                })
        }
        _ => false,
    }
}

fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}
