//! The values of a transcript, read back: `queue="jobs" durable arguments={x-max-length: 10}`.

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A bare word: a bit that is set.
    Set,
    Text(Vec<u8>),
    Integer(i128),
    /// `1797552000 s`, a timestamp in a table.
    Seconds(u64),
    Bool(bool),
    Void,
    Octets(Vec<u8>),
    Table(Vec<(String, Value)>),
    Array(Vec<Value>),
}

pub(super) type Fields = Vec<(String, Value)>;

/// `name=value` and bare words, with blanks between them.
pub(super) fn fields(text: &str) -> Result<Fields, String> {
    let mut cursor = Cursor(text);
    let mut fields = Fields::new();
    while !cursor.blank() {
        let name = cursor.word();
        if name.is_empty() {
            return Err(format!("no field: {:?}", cursor.0));
        }
        let value = if cursor.take("=") {
            cursor.value()?
        } else {
            Value::Set
        };
        if !cursor.0.is_empty() && !cursor.0.starts_with(' ') {
            return Err(format!("what is {:?} behind {name}?", cursor.0));
        }
        fields.push((name, value));
    }
    Ok(fields)
}

/// A text in quotes, all of it.
pub(super) fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut cursor = Cursor(text);
    match cursor.value()? {
        Value::Text(octets) => Ok((octets, cursor.0)),
        other => Err(format!("a text in quotes was due, not {other:?}")),
    }
}

/// What is left to read.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.0.strip_prefix(prefix);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Skips blanks, and says whether nothing is left.
    fn blank(&mut self) -> bool {
        self.0 = self.0.trim_start();
        self.0.is_empty()
    }

    fn while_is(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !is(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn word(&mut self) -> String {
        self.while_is(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            .to_owned()
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.take("\"") {
            return self.text().map(Value::Text);
        }
        if self.take("x\"") {
            return self.text().map(Value::Octets);
        }
        if self.take("{") {
            return self.list("}", Self::entry).map(Value::Table);
        }
        if self.take("[") {
            return self.list("]", Self::value).map(Value::Array);
        }
        let before = self.0;
        match &*self.word() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "void" => Ok(Value::Void),
            number => {
                let number: i128 = number
                    .parse()
                    .map_err(|_| format!("no value: {before:?}"))?;
                match (u64::try_from(number), self.0.strip_prefix(" s")) {
                    (Ok(seconds), Some(rest)) if rest.starts_with([',', '}', ']']) => {
                        self.0 = rest;
                        Ok(Value::Seconds(seconds))
                    }
                    _ => Ok(Value::Integer(number)),
                }
            }
        }
    }

    fn list<T>(
        &mut self,
        end: &str,
        one: fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        while !self.take(end) {
            if !all.is_empty() && !self.take(", ") {
                return Err(format!("`, ` or {end} was due: {:?}", self.0));
            }
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn entry(&mut self) -> Result<(String, Value), String> {
        let name = self.while_is(|c| c != ':').to_owned();
        if !self.take(": ") {
            return Err(format!("`name: value` was due: {name:?}"));
        }
        Ok((name, self.value()?))
    }

    /// Up to the closing quote, with the escapes that transcripts print.
    fn text(&mut self) -> Result<Vec<u8>, String> {
        let mut octets = Vec::new();
        loop {
            octets.extend_from_slice(self.while_is(|c| c != '"' && c != '\\').as_bytes());
            if self.take("\"") {
                return Ok(octets);
            }
            if !self.take("\\") {
                return Err("a text without an end".into());
            }
            let mut rest = self.0.chars();
            let escape = rest.next().unwrap_or(' ');
            self.0 = rest.as_str();
            let octet = match escape {
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                '"' | '\'' | '\\' => u8::try_from(escape).unwrap(),
                'x' => self.hexadecimal(2)?,
                'u' if self.take("{") => {
                    let digits = self.while_is(|c| c != '}').len();
                    self.0 = rest.as_str().strip_prefix('{').unwrap_or_default();
                    let octet = self.hexadecimal(digits)?;
                    self.take("}");
                    octet
                }
                _ => return Err(format!("no escape: \\{escape}")),
            };
            octets.push(octet);
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<u8, String> {
        let digits = self.0.get(..digits).unwrap_or_default();
        self.0 = &self.0[digits.len()..];
        u8::from_str_radix(digits, 16).map_err(|_| format!("no octet: {digits:?}"))
    }
}

#[test]
fn values_are_read_as_they_are_printed() {
    let text = |text: &str| Value::Text(text.into());
    let read = fields(
        r#"queue="a \"b\\\n\x00\u{7}" durable n=-7 arguments={on: true, l: [void, 1], t: 5 s, x: x"\xff"}"#,
    );
    let arguments = Value::Table(vec![
        ("on".into(), Value::Bool(true)),
        (
            "l".into(),
            Value::Array(vec![Value::Void, Value::Integer(1)]),
        ),
        ("t".into(), Value::Seconds(5)),
        ("x".into(), Value::Octets(vec![0xff])),
    ]);
    let expected = [
        ("queue", text("a \"b\\\n\0\x07")),
        ("durable", Value::Set),
        ("n", Value::Integer(-7)),
        ("arguments", arguments),
    ];
    assert_eq!(
        read,
        Ok(expected.map(|(name, value)| (name.into(), value)).into())
    );
}

#[test]
fn what_is_no_value_says_so() {
    for broken in [
        "queue=",
        "queue=jobs",
        "a=\"b",
        "a=\"\\y\"",
        "a={b 1}",
        "a=[1 2]",
        "=1",
        "a=1x",
        "a=\"\"b",
    ] {
        assert!(fields(broken).is_err(), "{broken}");
    }
}
