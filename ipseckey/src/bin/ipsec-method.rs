//! `ipsec-method`: starts the method of a service, with the values of its properties in the place of `%{group/name}`, as SMF
//! does. Not for people: units run it. It is a program of its own, so that the right to set properties is not the right to
//! run programs.

use service_properties::{Service, Store, store};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// How a method ends (smf_method(7)) that cannot go on, or whose properties are bad, or may not be read.
const FATAL: u8 = 95;
const CONFIG: u8 = 96;
const PERMISSION: u8 = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [service, program, arguments @ ..] = arguments.as_slice() else {
        eprintln!("usage: ipsec-method SERVICE PROGRAM [ARGUMENT]...");
        return ExitCode::from(FATAL);
    };
    let Some(service) = Service::find(service) else {
        eprintln!("ipsec-method: no service is called {service}");
        return ExitCode::from(FATAL);
    };
    let values = match Store::new(store::DIRECTORY).read(service) {
        Ok(values) => values,
        Err(error) => {
            eprintln!("ipsec-method: {error}");
            return ExitCode::from(if error.is_permission() { PERMISSION } else { CONFIG });
        }
    };
    let mut command = Command::new(program);
    command.env("SMF_FMRI", service.fmri);
    for argument in arguments {
        let value = |name: &str| {
            // Everybody can see the arguments of a program.
            let property = service.property(name).filter(|property| !property.private)?;
            values.get(property)
        };
        match ipseckey::methods::expand(argument, value) {
            Ok(argument) => command.arg(argument),
            Err(name) => {
                eprintln!("ipsec-method: {} has no property {name} for its methods", service.fmri);
                return ExitCode::from(FATAL);
            }
        };
    }
    let error = command.exec();
    eprintln!("ipsec-method: {program}: {error}");
    ExitCode::from(FATAL)
}
