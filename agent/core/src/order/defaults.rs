//! The extraction rules the product has without any configuration.
//!
//! One namespace, `order`: numbers of other systems (an order *number* beside an order *ID*) are attributes until somebody
//! declares them a key. Places are those that name the order in so many words; a bare `id` counts only where the request says
//! what it is the ID of.

use super::rules::{
    AmqpProperty, AttributeRule, Characters, KeyRule, Part, Places, Status, UploadFact, ValueKind, When,
};

/// Where services commonly mount their resources, and what they do with an order: listed, because what is listed may be
/// shown in the names of spans.
const MOUNT: &str = "(api|b2b|admin|internal|operator|partner|public|v1|v2|v3)";
const VERSION: &str = "(b2b|v1|v2|v3)";
const ACTION: &str = "(approve|calculation|cancel|confirm|deliver|events|file|finish|history|items|lines|model|models|pay|payment|price|\
                      produce|quote|reject|ship|shipment|start|status|submit)";

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The collection of orders: the default of `spans.routes`.
pub fn collection_paths() -> Vec<String> {
    vec!["/orders".to_owned(), format!("/{MOUNT}/orders"), format!("/{MOUNT}/{VERSION}/orders")]
}

/// Templates of an order's resources: those that name a route first, then any prefix and any depth.
fn order_paths() -> Vec<String> {
    let orders = collection_paths();
    let one = orders.iter().map(|orders| format!("{orders}/{{order_id}}"));
    let action = orders.iter().map(|orders| format!("{orders}/{{order_id}}/{ACTION}"));
    let other = orders.iter().map(|orders| format!("{orders}/{{order_id}}/*"));
    let any = ["/**/orders/{order_id}/**", "/**/order/{order_id}/**"].map(str::to_owned);
    one.chain(action).chain(other).chain(any).collect()
}

/// The default of `order.keys`.
pub fn keys() -> Vec<KeyRule> {
    let named = Places {
        paths: order_paths(),
        query: owned(&["order_id"]),
        headers: owned(&["x-order-id", "order-id"]),
        fields: owned(&["order_id"]),
        json_paths: owned(&["$.order.id"]),
        amqp_headers: owned(&["order_id", "x-order-id"]),
        columns: owned(&["order_id", "orders.id", "order.id"]),
        ..Places::default()
    };
    let created = Places { json_paths: owned(&["$.id", "$.data.id"]), ..Places::default() };
    // What is accepted only (202) often answers with the number of a job.
    let creates = |path: &str| When {
        method: Some("POST".to_owned()),
        path: Some(path.to_owned()),
        part: Some(Part::Response),
        status: vec![Status::new("200"), Status::new("201")],
        ..When::default()
    };
    vec![
        KeyRule { places: named, ..KeyRule::default() },
        KeyRule { places: created.clone(), when: Some(creates("/**/orders")), ..KeyRule::default() },
        KeyRule { places: created, when: Some(creates("/**/order")), ..KeyRule::default() },
    ]
}

/// The default of `order.attributes`.
pub fn attributes() -> Vec<AttributeRule> {
    let in_order = || Some(When { order: true, ..When::default() });
    let who = |name: &str, field: &str| AttributeRule {
        name: name.to_owned(),
        kind: ValueKind::Id,
        places: Places {
            query: owned(&[field]),
            headers: vec![format!("x-{}", field.replace('_', "-"))],
            fields: owned(&[field]),
            amqp_headers: owned(&[field]),
            columns: owned(&[field]),
            ..Places::default()
        },
        ..AttributeRule::default()
    };
    vec![
        AttributeRule {
            name: "order.status".to_owned(),
            kind: ValueKind::Text,
            max_length: Some(64),
            places: Places {
                fields: owned(&["order_status"]),
                json_paths: owned(&["$.order.status", "$.status", "$.data.status"]),
                amqp_headers: owned(&["order_status", "status"]),
                columns: owned(&["order_status", "*orders.status", "order.status"]),
                ..Places::default()
            },
            when: in_order(),
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.status_time".to_owned(),
            kind: ValueKind::Time,
            places: Places {
                fields: owned(&["status_changed_at", "status_updated_at", "status_time"]),
                columns: owned(&["status_changed_at", "status_updated_at"]),
                ..Places::default()
            },
            when: in_order(),
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.number".to_owned(),
            kind: ValueKind::Text,
            places: Places {
                query: owned(&["order_number"]),
                headers: owned(&["x-order-number"]),
                fields: owned(&["order_number"]),
                amqp_headers: owned(&["order_number"]),
                columns: owned(&["order_number"]),
                ..Places::default()
            },
            ..AttributeRule::default()
        },
        who("user.id", "user_id"),
        who("seller.id", "seller_id"),
        who("operator.id", "operator_id"),
        who("partner.id", "partner_id"),
        AttributeRule {
            name: "order.model.file_name".to_owned(),
            kind: ValueKind::Text,
            characters: Some(Characters::Printable),
            max_length: Some(255),
            places: Places {
                fields: owned(&["model_file_name", "model_file", "model_name"]),
                columns: owned(&["model_file_name", "model_file", "model_name", "models.file_name"]),
                uploads: vec![UploadFact::FileName],
                ..Places::default()
            },
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.model.key".to_owned(),
            kind: ValueKind::Text,
            characters: Some(Characters::Printable),
            max_length: Some(255),
            places: Places {
                fields: owned(&["model_key"]),
                columns: owned(&["model_key"]),
                ..Places::default()
            },
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.model.size".to_owned(),
            kind: ValueKind::Integer,
            places: Places {
                fields: owned(&["model_size", "model_size_bytes"]),
                columns: owned(&["model_size", "model_size_bytes", "models.size", "models.size_bytes"]),
                uploads: vec![UploadFact::Size],
                ..Places::default()
            },
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.model.format".to_owned(),
            kind: ValueKind::Text,
            characters: Some(Characters::Word),
            max_length: Some(16),
            places: Places {
                fields: owned(&["model_format"]),
                columns: owned(&["model_format", "models.format"]),
                uploads: vec![UploadFact::Extension],
                ..Places::default()
            },
            ..AttributeRule::default()
        },
        AttributeRule {
            name: "order.message.type".to_owned(),
            kind: ValueKind::Text,
            places: Places { amqp_properties: vec![AmqpProperty::Type], ..Places::default() },
            ..AttributeRule::default()
        },
    ]
}
