//! A configuration that was read again in, what of it can change without a restart put in force.
//!
//! *Owns* which settings that is, and that a bad file changes nothing. *Must not know* where configurations come from.

use std::time::{SystemTime, UNIX_EPOCH};

use super::deliver::Delivery;
use super::{RunError, pseudonyms};
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::process::Lookup;
use crate::span::sample::Sampler;

/// Reads the configuration again; the error is for the log.
pub type Reload<'a> = &'a dyn Fn() -> Result<Config, String>;

/// What became of reloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reloads {
    pub(super) applied: u64,
    pub(super) refused: u64,
    pub(super) loaded_unix: u64,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { applied: 0, refused: 0, loaded_unix: now() }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Reloads {
    /// Reads the configuration again and puts it in force; with a bad one, `config` stays.
    pub(super) fn reload(
        &mut self,
        read: Reload<'_>,
        config: &mut Config,
        pipeline: &mut Pipeline,
        delivery: &mut Delivery,
        lookup: &mut Lookup,
    ) {
        let applied = read().and_then(|new| {
            apply(config, &new, pipeline, delivery, lookup).map_err(|error| error.to_string())?;
            Ok(new)
        });
        match applied {
            Ok(new) => {
                let kept = needs_restart(config, &new);
                *config = new;
                self.applied += 1;
                self.loaded_unix = now();
                if kept.is_empty() {
                    tracing::info!("the configuration was reloaded");
                } else {
                    tracing::warn!(
                        "the configuration was reloaded; what changed in {} is used after a restart",
                        kept.join(", ")
                    );
                }
            }
            Err(reason) => {
                self.refused += 1;
                tracing::error!("the configuration was not reloaded, the old one stays in force: {reason}");
            }
        }
    }
}

fn apply(
    old: &Config,
    new: &Config,
    pipeline: &mut Pipeline,
    delivery: &mut Delivery,
    lookup: &mut Lookup,
) -> Result<(), RunError> {
    // Everything that can fail comes before everything that changes something.
    super::check(new)?;
    let pseudonyms = pseudonyms(new)?;
    if old.export.otlp != new.export.otlp || old.order != new.order {
        delivery.reload(new)?;
    }
    pipeline.set_rules(&new.order, &new.spans)?;
    pipeline.set_export(Sampler::new(&new.sampling), pseudonyms);
    if old.services != new.services {
        *lookup = Lookup::new(&new.services);
    }
    Ok(())
}

/// Sections of which something changed that is only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let metrics = |config: &Config| (config.export.otlp.metrics, config.export.otlp.metrics_endpoint.clone());
    let sections = [
        ("`capture`", old.capture != new.capture),
        ("`protocols`", old.protocols != new.protocols),
        ("`joining`", old.joining != new.joining),
        ("`export.spool`", old.export.spool != new.export.spool),
        ("`export.otlp.metrics`", metrics(old) != metrics(new)),
        ("`admin`", old.admin != new.admin),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Host;

    struct Running {
        config: Config,
        pipeline: Pipeline,
        delivery: Delivery,
        lookup: Lookup,
        reloads: Reloads,
    }

    impl Running {
        fn new() -> Self {
            let config = Config::default();
            Self {
                pipeline: super::super::pipeline(&config, [0; 16], String::new()).unwrap(),
                delivery: Delivery::start(&config, Host::default(), None, false, None).unwrap(),
                lookup: Lookup::new(&config.services),
                reloads: Reloads::default(),
                config,
            }
        }

        fn reload(&mut self, read: Reload<'_>) {
            self.reloads.reload(
                read,
                &mut self.config,
                &mut self.pipeline,
                &mut self.delivery,
                &mut self.lookup,
            );
        }
    }

    fn with(change: impl Fn(&mut Config)) -> impl Fn() -> Result<Config, String> {
        move || {
            let mut config = Config::default();
            change(&mut config);
            Ok(config)
        }
    }

    #[test]
    fn good_configuration_comes_into_force() {
        let mut running = Running::new();
        running.reload(&with(|config| config.order.deployment = "new".to_owned()));
        assert_eq!(running.config.order.deployment, "new");
        assert_eq!((running.reloads.applied, running.reloads.refused), (1, 0));
    }

    #[test]
    fn bad_configuration_changes_nothing() {
        let mut running = Running::new();
        let before = running.config.clone();
        running.reload(&|| Err("line 3: unknown key".to_owned()));
        // Passes the check of the file; its rule does not compile.
        running.reload(&with(|config| config.spans.routes = vec!["/**/x".to_owned()]));
        running.reload(&with(|config| {
            config.export.otlp.endpoint = "https://localhost:4317".to_owned();
            config.export.otlp.certificate = Some("/nonexistent".to_owned());
        }));
        running.reload(&with(|config| {
            config.privacy.hash = vec!["order.id".to_owned()];
            config.privacy.hash_secret_file = Some("/nonexistent".to_owned());
        }));
        assert!(running.config == before);
        assert_eq!((running.reloads.applied, running.reloads.refused), (0, 4));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = Config::default();
        let mut new = old.clone();
        assert!(needs_restart(&old, &new).is_empty());
        new.order.deployment = "x".to_owned();
        assert!(needs_restart(&old, &new).is_empty());
        new.capture.ring_bytes *= 2;
        new.export.spool.directory = "/var/lib/spoor".to_owned();
        assert_eq!(needs_restart(&old, &new), ["`capture`", "`export.spool`"]);
    }
}
