//! A configuration file and the environment in, a checked [`Config`](super::Config) or a located error out.
