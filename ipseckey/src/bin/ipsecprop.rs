//! `ipsecprop`: properties of the services, the part of svcprop and svccfg. What they are and where they are kept is in
//! `service_properties`.

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use service_properties::{Property, SERVICES, Service, Store, Values, store};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// See and set the properties of the IPsec services.
///
/// What is set takes effect when the service is started, or with `systemctl reload`.
#[derive(Parser)]
#[command(name = "ipsecprop", version, max_term_width = 100)]
struct Cli {
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the services, or what the properties of one take
    List {
        /// Name of a service, in SMF or as a unit
        #[arg(value_parser = service)]
        service: Option<&'static Service>,
    },
    /// Print all properties of a service, or the value of each that is named
    Get {
        /// Name of a service, in SMF or as a unit
        #[arg(value_parser = service)]
        service: &'static Service,
        /// Names of properties
        properties: Vec<String>,
    },
    /// Set properties; all of them or, when one does not fit, none
    Set {
        /// Name of a service, in SMF or as a unit
        #[arg(value_parser = service)]
        service: &'static Service,
        /// NAME=VALUE; a private property is named alone, and its value is read from standard input
        #[arg(required = true)]
        properties: Vec<String>,
    },
    /// Give properties their defaults again
    Unset {
        /// Name of a service, in SMF or as a unit
        #[arg(value_parser = service)]
        service: &'static Service,
        /// Names of properties
        #[arg(required = true)]
        properties: Vec<String>,
    },
}

fn service(name: &str) -> Result<&'static Service, String> {
    Service::find(name).ok_or_else(|| {
        let all: Vec<&str> = SERVICES.iter().map(|service| service.fmri).collect();
        format!("there are {}", all.join(", "))
    })
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Cli>("ipsecprop") {
        return code;
    }
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the listing has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ipsecprop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let store = Store::new(store::DIRECTORY);
    match &cli.verb {
        Verb::List { service: None } => print_services(cli.json),
        Verb::List { service: Some(service) } => print_properties(service, &store.read(service)?, cli.json),
        Verb::Get { service, properties } => print_values(service, &store.read(service)?, properties, cli.json),
        Verb::Set { service, properties } => {
            let changes: Vec<_> = properties.iter().map(|text| assignment(service, text)).collect::<Result<_, _>>()?;
            change(&store, service, &changes, cli.json)
        }
        Verb::Unset { service, properties } => {
            let named = |name: &String| Ok((property(service, name)?, None));
            let changes: Vec<_> = properties.iter().map(named).collect::<anyhow::Result<_>>()?;
            change(&store, service, &changes, cli.json)
        }
    }
}

fn property(service: &Service, name: &str) -> anyhow::Result<&'static Property> {
    service.property(name).with_context(|| {
        format!("{} has no property {name}; 'ipsecprop list {}' lists them", service.fmri, service.unit)
    })
}

/// What `NAME=VALUE` sets, or `NAME` and standard input.
fn assignment(service: &Service, text: &str) -> anyhow::Result<(&'static Property, Option<Zeroizing<String>>)> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let property = property(service, name)?;
    if let Some(missing) = property.missing {
        bail!("{name} cannot be set: {missing} in this release");
    }
    let value = match value {
        Some(_) if property.private => bail!("{name} is private: other users see command lines; give its name alone"),
        Some(value) => Zeroizing::new(value.to_owned()),
        None if property.private => secret()?,
        None => bail!("{name} needs a value: {name}=VALUE"),
    };
    Ok((property, Some(value)))
}

/// The first line of standard input.
fn secret() -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(2 * service_properties::table::MAX_VALUE));
    io::stdin().take(service_properties::table::MAX_VALUE as u64 + 2).read_to_string(&mut text)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn change(
    store: &Store,
    service: &Service,
    changes: &[(&'static Property, Option<Zeroizing<String>>)],
    json: bool,
) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root may set properties, and who has the right to: pkexec ipsecprop ..."
    );
    store.change(service, changes)?;
    let mut out = io::stdout().lock();
    if json {
        let names: Vec<&str> = changes.iter().map(|(property, _)| property.name).collect();
        let report = json!({"service": service.fmri, "unit": service.unit, "changed": names});
        serde_json::to_writer_pretty(&mut out, &report)?;
        return Ok(writeln!(out)?);
    }
    Ok(writeln!(out, "In force after 'systemctl reload {}', or when it is started.", service.unit)?)
}

fn print_services(json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let all: Vec<Value> = SERVICES.iter().map(|s| json!({"service": s.fmri, "unit": s.unit})).collect();
        serde_json::to_writer_pretty(&mut out, &all)?;
        return Ok(writeln!(out)?);
    }
    for service in SERVICES {
        writeln!(out, "{:<40} {}", service.fmri, service.unit)?;
    }
    Ok(())
}

/// What `--json` says about a property.
fn as_json(property: &Property, values: &Values) -> Value {
    json!({
        "name": property.name,
        "type": property.kind.name(),
        "value": values.get(property),
        "set": values.is_set(property),
        "default": property.default,
        "takes": property.kind.expected(),
        "private": property.private,
        "missing": property.missing,
        "about": property.about,
    })
}

fn print_json(service: &Service, values: &Values, properties: &[&'static Property]) -> anyhow::Result<()> {
    let all: Vec<Value> = properties.iter().map(|property| as_json(property, values)).collect();
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &json!({"service": service.fmri, "unit": service.unit, "properties": all}))?;
    Ok(writeln!(out)?)
}

fn print_properties(service: &Service, values: &Values, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(service, values, &service.properties.iter().collect::<Vec<_>>());
    }
    let mut out = io::stdout().lock();
    for property in service.properties {
        let Property { name, kind, default, about, .. } = property;
        writeln!(out, "{name:<28} {:<8} {}: {about}", kind.name(), kind.expected())?;
        match property.missing {
            Some(missing) => writeln!(out, "{:<28} cannot be set: {missing} in this release", "")?,
            None => writeln!(out, "{:<28} default {}", "", if default.is_empty() { "\"\"" } else { default })?,
        }
        if values.is_set(property) {
            writeln!(out, "{:<28} set", "")?;
        }
    }
    Ok(())
}

fn print_values(service: &Service, values: &Values, names: &[String], json: bool) -> anyhow::Result<()> {
    let named: Vec<_> = names.iter().map(|name| property(service, name)).collect::<anyhow::Result<_>>()?;
    if json {
        let all = service.properties.iter().filter(|property| property.missing.is_none());
        return print_json(service, values, &if named.is_empty() { all.collect() } else { named });
    }
    let mut out = io::stdout().lock();
    for property in &named {
        let value = values.get(property).with_context(|| format!("only root may read {}", property.name))?;
        writeln!(out, "{value}")?;
    }
    if named.is_empty() {
        // As svcprop(1) does, without what the user may not read, and without what has no effect here.
        for property in service.properties.iter().filter(|property| property.missing.is_none()) {
            if let Some(value) = values.get(property) {
                let value = if value.is_empty() { "\"\"" } else { value };
                writeln!(out, "{} {} {value}", property.name, property.kind.name())?;
            }
        }
    }
    Ok(())
}
