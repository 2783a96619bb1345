//! Options → sign-on at the house's identity provider.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ipnet::IpNet;

use super::serve::network;
use crate::access::{Oidc, OidcSettings, Role};
use crate::store::seal::Master;

#[derive(Debug, Args)]
pub(super) struct SignOnOptions {
    /// Identity provider (OpenID Connect) at which people sign on, its issuer, exactly as it writes it itself
    #[arg(long, env = "SPOOR_SERVE_OIDC_ISSUER", value_name = "URL", requires_all = ["oidc_client_id", "oidc_secret_file", "url", "group_role"])]
    oidc_issuer: Option<String>,
    /// Name of this server at the provider
    #[arg(long, env = "SPOOR_SERVE_OIDC_CLIENT_ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// File with the secret that the provider gave this server
    #[arg(long, env = "SPOOR_SERVE_OIDC_SECRET_FILE", requires = "oidc_issuer")]
    oidc_secret_file: Option<PathBuf>,
    /// Address under which people reach the pages; the provider is told to send them back to its /oidc/callback
    #[arg(long, env = "SPOOR_SERVE_URL")]
    url: Option<String>,
    /// Claim of the ID token that lists a person's groups, or a path to it, such as /realm_access/roles
    #[arg(long, env = "SPOOR_SERVE_OIDC_GROUPS_CLAIM", default_value = "groups")]
    oidc_groups_claim: String,
    /// Claim of the ID token that names a person in the access log; one that people cannot change themselves
    #[arg(long, env = "SPOOR_SERVE_OIDC_NAME_CLAIM", default_value = "preferred_username")]
    oidc_name_claim: String,
    /// Scopes that are asked for beside openid
    #[arg(long, env = "SPOOR_SERVE_OIDC_SCOPES", value_delimiter = ',', default_value = "profile")]
    oidc_scope: Vec<String>,
    /// Private networks in which the provider may be; without a list only public addresses are asked
    #[arg(long, env = "SPOOR_SERVE_OIDC_PRIVATE", value_delimiter = ',', value_parser = network)]
    oidc_private: Vec<IpNet>,
}

impl SignOnOptions {
    pub(super) fn open(&self, roles: &[(String, Role)]) -> Result<Option<Oidc>> {
        let (Some(issuer), Some(client_id), Some(file), Some(url)) =
            (&self.oidc_issuer, &self.oidc_client_id, &self.oidc_secret_file, &self.url)
        else {
            return Ok(None);
        };
        let secret =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let settings = OidcSettings {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            secret,
            url: url.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            name_claim: self.oidc_name_claim.clone(),
            scopes: self.oidc_scope.clone(),
            roles: roles.to_vec(),
            private: self.oidc_private.clone(),
            // Of this start only: who signs on meanwhile begins again.
            key: Master::generate()?.derive("sign-on at a provider"),
        };
        Ok(Some(Oidc::new(settings).context("nobody can sign on at the identity provider")?))
    }
}
