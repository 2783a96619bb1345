//! Attribute names of OpenTelemetry semantic conventions v1.44.0.
