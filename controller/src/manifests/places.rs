//! Where in a text things are: the path to a value, and the line of each value of a document.
//!
//! Objects are read from trees, which do not know lines. Only when one is wrong the text is read once more, for nothing
//! but its lines.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// From a value to one of those in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A field of an object.
    Field(String),
    /// An item of a list, counted from 0.
    Item(usize),
}

/// `spec.ports[0].name`.
pub(super) struct Steps<'a>(pub(super) &'a [Step]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// The steps to where reading stopped.
pub(super) fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Field(key.clone())),
            Segment::Seq { index } => Some(Step::Item(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// The line of a value, of its key where it has one, and those of the values in it.
pub(super) struct Lines {
    own: u64,
    within: Within,
}

enum Within {
    Fields(BTreeMap<String, Lines>),
    Items(Vec<Lines>),
    Nothing,
}

impl Lines {
    /// Of a document that can be read.
    pub(super) fn of(text: &str) -> Option<Self> {
        serde_saphyr::from_str(text).ok()
    }

    /// The line of what is at the end of the steps, or of the last thing on the way there that exists. Counted from 1.
    pub(super) fn at(&self, steps: &[Step]) -> u64 {
        let Some((first, rest)) = steps.split_first() else {
            return self.own;
        };
        let next = match (first, &self.within) {
            (Step::Field(name), Within::Fields(fields)) => fields.get(name),
            (Step::Item(index), Within::Items(items)) => items.get(*index),
            _ => None,
        };
        next.map_or(self.own, |next| next.at(rest))
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Within>::deserialize(deserializer)?;
        Ok(Self {
            own: spanned.referenced.line(),
            within: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WithinVisitor)
    }
}

struct WithinVisitor;

impl<'de> Visitor<'de> for WithinVisitor {
    type Value = Within;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Within, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, mut value)) = map.next_entry::<Spanned<String>, Lines>()? {
            let line = key.referenced.line();
            if line > 0 {
                value.own = line;
            }
            fields.insert(key.value, value);
        }
        Ok(Within::Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Within, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Within::Items(items))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Within, E> {
        Ok(Within::Nothing)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Within, E> {
        Ok(Within::Nothing)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Within, E> {
        Ok(Within::Nothing)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Within, E> {
        Ok(Within::Nothing)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Within, E> {
        Ok(Within::Nothing)
    }

    fn visit_unit<E: Error>(self) -> Result<Within, E> {
        Ok(Within::Nothing)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_keys_and_items() {
        let text = "\
# a comment
a: 1
b:
  c: {d: true, 7: x}
  list:
    - first
    -
      name: ~
      text: |
        two
        lines
    - {name: 1.5}
e: *anchor
";
        let text = text.replace("a: 1", "a: &anchor {f: 1}");
        let lines = Lines::of(&text).unwrap();
        let field = |name: &str| Step::Field(name.to_owned());
        let cases: [(&[Step], u64); 11] = [
            (&[], 2),
            (&[field("a")], 2),
            (&[field("b")], 3),
            (&[field("b"), field("c"), field("d")], 4),
            (&[field("b"), field("none"), field("d")], 3),
            (&[field("b"), field("list")], 5),
            (&[field("b"), field("list"), Step::Item(0)], 6),
            (
                &[field("b"), field("list"), Step::Item(1), field("text")],
                9,
            ),
            (
                &[field("b"), field("list"), Step::Item(2), field("name")],
                12,
            ),
            (&[field("b"), field("list"), Step::Item(3)], 5),
            // Where it is used.
            (&[field("e"), field("f")], 13),
        ];
        for (steps, wanted) in cases {
            assert_eq!(lines.at(steps), wanted, "{}", Steps(steps));
        }
        let steps = [field("b"), field("list"), Step::Item(1), field("text")];
        assert_eq!(Steps(&steps).to_string(), "b.list[1].text");
    }
}
