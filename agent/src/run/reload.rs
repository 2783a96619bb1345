//! A configuration that was read again in, what of it can change without a restart put in force.
//!
//! *Owns* which settings that is, and that a bad file changes nothing. *Must not know* where configurations come from.

use std::sync::Arc;

use super::deliver::Delivery;
use super::opening::Opening;
use super::{RunError, pseudonyms};
use crate::clock;
use crate::config::Config;
use crate::service::kubernetes::Pods;
use crate::service::{Inspector, Lookup};
use spoor_core::pipeline::Pipeline;
use spoor_core::span::sample::Sampler;

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
        Self { applied: 0, refused: 0, loaded_unix: clock::unix().as_secs() }
    }
}

/// What a run consists of, as far as settings change it.
pub(super) struct Running<'a> {
    pub(super) config: &'a mut Config,
    pub(super) pipeline: &'a mut Pipeline,
    pub(super) delivery: &'a mut Delivery,
    pub(super) lookup: &'a mut Lookup,
    pub(super) opening: &'a mut Opening,
    pub(super) pods: Option<&'a Arc<Pods>>,
}

impl Reloads {
    /// Reads the configuration again and puts it in force; with a bad one, the old one stays.
    pub(super) fn reload(&mut self, read: Reload<'_>, mut running: Running<'_>) {
        let applied = read().and_then(|new| {
            running.apply(&new).map_err(|error| error.to_string())?;
            Ok(new)
        });
        match applied {
            Ok(new) => {
                let kept = needs_restart(running.config, &new);
                *running.config = new;
                self.applied += 1;
                self.loaded_unix = clock::unix().as_secs();
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

impl Running<'_> {
    fn apply(&mut self, new: &Config) -> Result<(), RunError> {
        // Everything that can fail comes before everything that changes something.
        super::check(new)?;
        let pseudonyms = pseudonyms(new)?;
        let old = &*self.config;
        if old.export.otlp != new.export.otlp || old.order != new.order {
            self.delivery.reload(new)?;
        }
        self.pipeline.set_rules(&new.order, &new.spans)?;
        self.pipeline.set_export(Sampler::new(&new.sampling), pseudonyms);
        if (&old.services, &old.select) != (&new.services, &new.select) {
            *self.lookup = Lookup::new(Inspector::new(new, self.pods.cloned()));
        }
        self.opening.reload(self.config, new, self.pipeline);
        Ok(())
    }
}

/// Sections of which something changed that is only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let metrics = |config: &Config| (config.export.otlp.metrics, config.export.otlp.metrics_endpoint.clone());
    let sections = [
        ("`capture`", old.capture != new.capture),
        ("`protocols`", old.protocols != new.protocols),
        ("`joining`", old.joining != new.joining),
        ("`limits`", old.limits != new.limits),
        ("`export.spool`", old.export.spool != new.export.spool),
        ("`state`", old.state != new.state),
        ("`export.otlp.metrics`", metrics(old) != metrics(new)),
        ("`admin`", old.admin != new.admin),
        ("`tls.key_logs`", old.tls.key_logs != new.tls.key_logs),
        ("`kubernetes`", old.kubernetes != new.kubernetes),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::stop::Stop;
    use super::*;
    use crate::config::{OpenTls, Selector};
    use crate::export::Host;

    struct Agent {
        config: Config,
        pipeline: Pipeline,
        delivery: Delivery,
        lookup: Lookup,
        opening: Opening,
        reloads: Reloads,
    }

    impl Agent {
        fn new() -> Self {
            let config = Config::default();
            let mut pipeline = super::super::pipeline(&config, [0; 16]).unwrap();
            Self {
                opening: Opening::start(&config, &mut pipeline).unwrap(),
                pipeline,
                delivery: Delivery::start(&config, Host::default(), None, None, None, &Stop::quiet())
                    .unwrap(),
                lookup: Lookup::new(Inspector::new(&config, None)),
                reloads: Reloads::default(),
                config,
            }
        }

        fn reload(&mut self, read: Reload<'_>) {
            let running = Running {
                config: &mut self.config,
                pipeline: &mut self.pipeline,
                delivery: &mut self.delivery,
                lookup: &mut self.lookup,
                opening: &mut self.opening,
                pods: None,
            };
            self.reloads.reload(read, running);
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
        let mut running = Agent::new();
        running.reload(&with(|config| config.order.deployment = "new".to_owned()));
        assert_eq!(running.config.order.deployment, "new");
        assert_eq!((running.reloads.applied, running.reloads.refused), (1, 0));
    }

    #[test]
    fn bad_configuration_changes_nothing() {
        let mut running = Agent::new();
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
    fn memory_is_read_only_as_long_as_the_configuration_in_force_says_so() {
        let selected = |config: &mut Config| {
            config.select.include = vec![Selector { service: Some("crm".to_owned()), ..Selector::default() }];
        };
        let mut running = Agent::new();
        assert!(!running.opening.is_searching(), "nothing is selected");
        running.reload(&with(selected));
        assert!(running.opening.is_searching());
        running.reload(&with(|config| {
            selected(config);
            config.tls.open = OpenTls::Off;
        }));
        assert!(!running.opening.is_searching());
        running.reload(&with(selected));
        assert!(running.opening.is_searching());
        running.reload(&with(|config| {
            selected(config);
            config.tls.memory.cpu_percent = 7;
        }));
        assert!(running.opening.is_searching(), "with other limits");
        running.reload(&with(|_| {}));
        assert!(!running.opening.is_searching(), "nothing is selected any more");
        running.reload(&with(|config| config.tls.open = OpenTls::All));
        assert!(running.opening.is_searching());
        assert_eq!(running.reloads.refused, 0);
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
