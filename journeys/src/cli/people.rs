//! Commands about people → invitations, tokens and lines of the access log.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use super::{Folder, Place};
use crate::access::{AccessLog, Role, Wanted};
use crate::facts::Key;
use crate::intake::now;
use crate::store::seal::Keys;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make a user, or change the role; prints a link that is good once, for a day
    Invite {
        #[command(flatten)]
        folder: Folder,
        name: String,
        #[arg(long)]
        role: RoleName,
        /// Address under which people reach the pages
        #[arg(long, env = "SPOOR_SERVE_URL", default_value = "http://127.0.0.1:8470")]
        url: String,
    },
    /// List users
    List(Folder),
    /// End a user's or token's sessions and rights
    Disable {
        #[command(flatten)]
        folder: Folder,
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleName {
    Support,
    Developer,
    Auditor,
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Support => Role::Support,
            RoleName::Developer => Role::Developer,
            RoleName::Auditor => Role::Auditor,
            RoleName::Admin => Role::Admin,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct TokenOptions {
    #[command(flatten)]
    folder: Folder,
    /// Name of the program
    name: String,
    #[arg(long)]
    role: RoleName,
    /// Days for which it is good
    #[arg(long, default_value_t = 90)]
    days: u32,
}

#[derive(Debug, Args)]
pub(super) struct LogOptions {
    #[command(flatten)]
    place: Place,
    /// Only lines about this order
    #[arg(long)]
    order: Option<String>,
    /// Only lines of this person
    #[arg(long)]
    who: Option<String>,
    /// At most so many lines, the latest first
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Check the chain instead
    #[arg(long)]
    verify: bool,
}

pub(super) fn user(command: &UserCommand) -> Result<()> {
    match command {
        UserCommand::Invite { folder, name, role, url } => {
            let code = folder.directory()?.invite(name, (*role).into(), now())?;
            println!("{}/invite/{code}", url.trim_end_matches('/'));
        }
        UserCommand::List(folder) => {
            for user in folder.directory()?.users()? {
                let state = match (user.disabled, user.has_password) {
                    (true, _) => "disabled",
                    (false, true) => "active",
                    (false, false) => "invited",
                };
                println!("{}\t{}\t{state}", user.name, user.role);
            }
        }
        UserCommand::Disable { folder, name } => folder.directory()?.disable(name)?,
    }
    Ok(())
}

pub(super) fn token(options: &TokenOptions) -> Result<()> {
    let token =
        options.folder.directory()?.new_token(&options.name, options.role.into(), options.days, now())?;
    println!("{token}");
    Ok(())
}

pub(super) fn access_log(options: &LogOptions) -> Result<ExitCode> {
    let key = Keys::log_key(&options.place.folder.data.join("keys"), &options.place.master()?)?;
    let log = AccessLog::to_read(&options.place.folder.data.join("access"), key);
    if options.verify {
        let lines = log.verify()?;
        println!("{lines} lines, each as it was written and in its place");
        return Ok(ExitCode::SUCCESS);
    }
    // In the form that all pages show.
    let order = options
        .order
        .as_ref()
        .map(|text| Key::parse(text).context("this is no order's number"))
        .transpose()?;
    let wanted =
        Wanted { order: order.map(|key| key.to_string()), who: options.who.clone(), limit: options.limit };
    for (at, entry) in log.find(&wanted)? {
        let who = if entry.who.is_empty() { "-" } else { &entry.who };
        println!("{at}\t{who}\t{}\t{}\t{}\t{}", entry.role, entry.from, entry.action, entry.result);
    }
    Ok(ExitCode::SUCCESS)
}
