//! Extraction rules as they stand in the configuration.
//!
//! *Owns* the shape of `order.keys` and `order.attributes`. [`defaults`](super::defaults) has what the product knows by
//! itself, [`compile`](super::compile) turns both into what extraction runs on.
//! *Must not know* the bytes of protocols.
//!
//! Names of fields, headers, query parameters and columns match without regard to their convention, in any script: `order_id`
//! stands for `orderId`, `order-id`, `OrderID`, `ORDER_ID` and `Order ID` too. Nothing is ever taken from a place that no rule
//! names: order IDs are small integers that look like quantities, users and limits.
//!
//! A name that says nothing of what it numbers (`id`, `number`, `номер`) is weak: it is not taken from a response that is no
//! success (unless the rule names a status), nor beside `error`, `errors` or `jsonrpc`, nor inside an error, nor from a problem
//! document (RFC 9457).

use serde::{Deserialize, Serialize};

pub use super::compile::RuleError;
pub use super::defaults::{attributes as default_attributes, keys as default_keys};

/// Where one kind of key is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRule {
    /// The numbering system. Keys of two namespaces never mean the same order, equal or not. The namespace of the first
    /// rule is the main one: when an operation carries keys of several, that one names its order.
    pub namespace: String,
    /// The key identifies one order: it may join operations and name traces. `false`: it is exported as the attribute
    /// `order.<namespace>.id`, and joins nothing.
    pub identity: bool,
    #[serde(rename = "type")]
    pub kind: ValueKind,
    /// Longest value: digits of an `integer` (default and at most 19), characters of a `text` (default 64, at most 255).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// What a `text` may consist of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<Characters>,
    /// The shape of a `pattern`: `#` is a digit from 0 to 9, `@` a letter of any script, `%` a letter or digit of any script,
    /// `+` behind one of them repeats it, `\` takes the next character as it is, anything else stands for itself: `ORD-#+`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(rename = "in")]
    pub places: Places,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
}

impl Default for KeyRule {
    fn default() -> Self {
        Self {
            namespace: "order".to_owned(),
            identity: true,
            kind: ValueKind::default(),
            max_length: None,
            characters: None,
            pattern: None,
            places: Places::default(),
            when: None,
        }
    }
}

/// A further attribute of spans, found like a key. Values that look like an e-mail address, a telephone or a card number
/// are never taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeRule {
    /// The attribute's name.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ValueKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<Characters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(rename = "in")]
    pub places: Places,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
}

/// The type of a value, and with it the canonical form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// `integer` or `uuid`, whichever it is; a string on the span.
    #[default]
    Id,
    /// Decimal digits; without `+` and leading zeros. Zero stands for "none yet" and is not taken as a key.
    Integer,
    /// 32 hexadecimal digits, hyphenated or not; lower case with hyphens. The nil UUID is not taken.
    Uuid,
    /// Any text of the allowed characters, without surrounding blanks.
    Text,
    /// Text of one shape.
    Pattern,
    /// A date and time of ISO 8601, as written.
    Time,
}

/// What a `text` may consist of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Characters {
    /// Letters and digits of any script.
    Alphanumeric,
    /// Letters and digits of any script, `-`, `_`, `.`.
    Word,
    /// Up to six words with blanks between: statuses and numbers as people write them. `/ : # № ( ) + ,` may stand in them.
    #[default]
    Phrase,
    /// Everything but control characters, in any script.
    Printable,
}

/// The places a value is taken from. All given ones are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Places {
    /// Path templates of HTTP requests with exactly one `{placeholder}`: `/orders/{order_id}`; `*` is any one segment,
    /// `(confirm|cancel)` one of those, `**` any number of any. A template without `**` also names the route of the request's spans.
    /// Paths are compared decoded, without letter case, parameters (`;x=y`), empty segments and endings such as `.json`;
    /// `Orders(17)` is `Orders/17`. They are also looked for in the `Location` of what a request created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// HTTP header fields, of requests and responses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Names in bodies: JSON at any depth outside arrays (or in an array seen whole with one distinct value), elements and
    /// attributes of XML, forms, multipart forms; and in JSON documents that are values of SQL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// JSON values by their full path: `$.order.id`, `$.params[0][0]`. Also XML values by the names of their elements from the
    /// root on (of SOAP: from the body's child on), parameters of XML-RPC (`$.params[0]`), and the form fields `order.id` and
    /// `order[id]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub json_paths: Vec<String>,
    /// Fields of gRPC messages by their numbers: `1.3` is field 3 of the message in field 1. What they mean is another matter in
    /// every service: say which with `when.path`, such as `/shop.v1.Orders/*`. A field that occurs with different values
    /// names no order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protobuf_paths: Vec<String>,
    /// Entries of AMQP header tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amqp_headers: Vec<String>,
    /// Properties of AMQP messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amqp_properties: Vec<AmqpProperty>,
    /// Columns: `orders.id`, `*orders.status` of tables whose name ends so, or `order_id` of any table. Taken from values that a statement compares with `=` or inserts, and
    /// from the result when the command tag says one row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Facts about the file of a multipart upload, if there is just one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<UploadFact>,
}

/// Properties of class `basic` that can carry a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AmqpProperty {
    CorrelationId,
    MessageId,
    Type,
    AppId,
    ReplyTo,
}

/// What is known of an uploaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadFact {
    FileName,
    /// Bytes.
    Size,
    /// The file name's extension, lower case, without the dot.
    Extension,
    ContentType,
}

/// Conditions under which a rule holds. All given ones must be true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Template of the HTTP request's path, with `*` and `**`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only the request, or only the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Status of the HTTP response, one of these: `201`, `2xx`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// Method of JSON-RPC or XML-RPC, SOAP action or GraphQL operation; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// AMQP exchange, routing key or queue; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The operation itself names an order. For attributes only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub order: bool,
}

/// A status, or all of a hundred: `201`, `2xx`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(transparent)]
pub struct Status(String);

impl Status {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The statuses that it stands for.
    pub(super) fn range(&self) -> Result<std::ops::RangeInclusive<u16>, String> {
        let text = self.0.to_ascii_lowercase();
        let first = text.strip_suffix("xx").unwrap_or(&text);
        let number = first.parse::<u16>().ok().filter(|_| first.bytes().all(|byte| byte.is_ascii_digit()));
        match (number, first.len() < text.len()) {
            (Some(code @ 100..=599), false) => Ok(code..=code),
            (Some(class @ 1..=5), true) => Ok(class * 100..=class * 100 + 99),
            _ => Err(format!("`{}` is not a status such as `201` or `2xx`", self.0)),
        }
    }
}

/// YAML has `201` for a number.
impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Status;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status such as 201 or 2xx")
            }

            fn visit_str<E>(self, text: &str) -> Result<Status, E> {
                Ok(Status::new(text))
            }

            fn visit_u64<E>(self, code: u64) -> Result<Status, E> {
                Ok(Status::new(code.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// Half of an operation. A publish or delivery is a request, a result row is a response.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Request,
    Response,
}
