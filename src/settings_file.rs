//! `--config`: options from a file, TOML or the `config.json` of a run.
//!
//! The file's options replace `--config` on the command line, where its other options come first. Everything behind the parser
//! sees one command line.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value};
use softstep::data::{Kind, TestPart};
use softstep::optimizer::Optimizer;

use crate::commands::train::options::{CHOSEN, TrainArgs};
use crate::options::{OWN_DATA, Problem, given};
use crate::run::config::{CONFIG, Config, Source};
use crate::run::files::read_json;

/// Options of a run that are not taken over from its `config.json`: its place, its output and its number of models.
const OF_ONE_RUN: [&str; 13] = [
    "backend",
    "adapter",
    "checkpoint_every",
    "folds",
    "jobs",
    "json",
    "out",
    "profile",
    "quiet",
    "readback",
    "resume",
    "seeds",
    "tensorboard",
];

/// Options with which the settings of [`CHOSEN`] are chosen anew.
const CHOOSING: [&str; 7] = ["data", "hidden", "activation", "layers", "loss", "optimizer", "batch_size"];

/// The arguments of a program, as they are and parsed for a command.
pub struct Given<'a> {
    /// The command.
    pub command: &'a Command,
    /// The parsed arguments.
    pub matches: &'a ArgMatches,
    /// The arguments, the program's name first.
    pub arguments: &'a [OsString],
}

/// Arguments with the options of a file in the place of `--config`.
pub struct Expanded {
    /// The arguments of the command.
    pub whole: Vec<OsString>,
    /// The arguments without the settings that the run of the file chose by its data.
    pub recorded: Vec<OsString>,
}

/// Puts the options of the file in the place of `--config`. Settings that a run chose by its data are among them unless the
/// command line has other data, or another network.
///
/// # Errors
/// A file that cannot be read, or has something that is no option of the command.
pub fn expanded(Given { command, matches, arguments }: &Given<'_>, path: &Path) -> Result<Expanded, Problem> {
    let said: BTreeSet<String> = given(command, matches).into_keys().collect();
    let (options, chosen) = read(command, path).map_err(|problem| (ErrorKind::ValueValidation, problem))?;
    let kind = matches.get_one::<String>("data").map(|data| Kind::of(data));
    let is_left_out = |argument: &Arg| {
        let id = argument.get_id().as_str();
        let conflicts =
            |of: &Arg, id: &str| command.get_arg_conflicts_with(of).iter().any(|other| other.get_id() == id);
        let mut others = command.get_arguments().filter(|other| said.contains(other.get_id().as_str()));
        said.contains(id)
            || others.any(|other| conflicts(other, id) || conflicts(argument, other.get_id().as_str()))
            // Another optimizer has settings of its own, and another kind of data its own way to be read.
            || said.contains("optimizer") && (id == "learning_rate" || is_optimizer_setting(id))
            || said.contains("data") && OWN_DATA.iter().any(|(field, kinds)| {
                *field == id && kind.is_none_or(|kind| !kinds.contains(&kind))
            })
            // With patience the best epoch is kept, unless the command line says otherwise.
            || said.contains("patience") && id == "keep"
    };
    let mut own = Vec::new();
    let mut rest = arguments[2..].iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--config") => drop(rest.next()),
            Some(text) if text.starts_with("--config=") => {}
            _ => own.push(argument.clone()),
        }
    }
    let with = |has_chosen: bool| -> Vec<OsString> {
        let is_taken = |argument: &Arg| has_chosen || !chosen.contains(argument.get_id().as_str());
        let of_file = options.iter().filter(|(argument, _)| is_taken(argument) && !is_left_out(argument));
        let of_file = of_file.map(|(argument, value)| {
            let flag = format!("--{}", argument.get_long().unwrap_or_default());
            value.as_ref().map_or(flag.clone(), |value| format!("{flag}={value}")).into()
        });
        arguments[..2].iter().cloned().chain(of_file).chain(own.iter().cloned()).collect()
    };
    let chooses_anew = CHOOSING.iter().any(|field| said.contains(*field));
    Ok(Expanded { whole: with(!chooses_anew), recorded: with(false) })
}

fn is_optimizer_setting(id: &str) -> bool {
    Optimizer::all().iter().any(|optimizer| optimizer.setting_names().contains(&id))
}

/// An option of a command, with its value; `None` for an option without one.
type Choice<'a> = (&'a Arg, Option<String>);

/// Options of a file, and the names of the settings among them that a run chose by its data.
type Choices<'a> = (Vec<Choice<'a>>, BTreeSet<String>);

/// Reads the options of a file, or of a run folder's `config.json`.
fn read<'a>(command: &'a Command, path: &Path) -> Result<Choices<'a>, String> {
    let path = if path.is_dir() { &path.join(CONFIG) } else { path };
    let file = path.display();
    if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) {
        let all: Map<String, Value> = read_json(path).map_err(|error| format!("{error:#}"))?;
        if all.contains_key("version") {
            let run = serde_json::from_value(Value::Object(all)).map_err(|error| format!("{file}: {error}"))?;
            return of_run(command, run).map_err(|problem| format!("{file}: {problem}"));
        }
        return told(command, all).map_err(|problem| format!("{file}: {problem}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("--config {file}: {error}"))?;
    let all: Map<String, Value> =
        toml::from_str(&text).map_err(|error| format!("{file}: {}", error.to_string().trim_end()))?;
    told(command, all).map_err(|problem| format!("{file}: {problem}"))
}

/// The options of an object, none of which a run chose.
fn told(command: &Command, all: Map<String, Value>) -> Result<Choices<'_>, String> {
    Ok((options(command, all)?, BTreeSet::new()))
}

/// The options of an object: names of flags without their dashes, or of settings as in `config.json`.
fn options(command: &Command, all: Map<String, Value>) -> Result<Vec<Choice<'_>>, String> {
    let mut options = Vec::new();
    for (key, value) in all {
        let dashed = key.replace('_', "-");
        let is_named = |argument: &&Arg| argument.get_long() == Some(&*dashed) || argument.get_id().as_str() == key;
        let known = command.get_arguments().find(is_named).filter(|argument| argument.get_id().as_str() != "config");
        let argument = known.ok_or_else(|| {
            let name = command.get_name();
            format!("{key:?} is no option of `softstep {name}`, whose flags are the names here, as in lr = 0.1")
        })?;
        if let Some(value) = text(argument, &key, value)? {
            options.push((argument, value));
        }
    }
    Ok(options)
}

/// The settings and the data of a run, as far as the command has such options.
fn of_run(command: &Command, run: Config<Map<String, Value>>) -> Result<Choices<'_>, String> {
    let (mut all, mut chosen) = (run.settings, BTreeSet::new());
    // No validation part is what both commands say by leaving it out.
    if all.get("validation").and_then(Value::as_f64) == Some(0.0) {
        all.remove("validation");
    }
    // A network of layers is no stack of hidden ones.
    if all.get("layers").is_some_and(|layers| !layers.is_null()) {
        all.remove("hidden");
        all.remove("activation");
    }
    if let Some(source) = run.source {
        let Source { arguments, path, test_path, data_dir, init, .. } = source;
        // Behind the name of the command; a resumed run has none.
        let args = TrainArgs::parse(arguments.into_iter().skip(1)).map_err(|error| error.to_string())?;
        chosen.extend(CHOSEN.into_iter().filter(|id| !args.gives(id)).map(String::from));
        let settings: BTreeSet<String> = all.keys().cloned().collect();
        for (id, argument) in args.options {
            if settings.contains(&id) || OF_ONE_RUN.contains(&id.as_str()) {
                continue;
            }
            match (argument.split_once('='), all.get_mut(&id)) {
                // A list of columns in two parts.
                (Some((_, value)), Some(Value::String(first))) => *first = format!("{first},{value}"),
                (value, _) => {
                    let value = value.map_or(Value::Bool(true), |(_, value)| Value::String(value.to_owned()));
                    all.insert(id, value);
                }
            }
        }
        let places = [("data", path), ("data_dir", data_dir), ("init", init.map(|init| init.path))];
        all.extend(places.into_iter().filter_map(|(id, place)| Some((id.to_owned(), Value::String(place?)))));
        all.entry("data").or_insert(Value::String(run.data));
        if let (Some(place), Some(TestPart::Path(_))) = (test_path, &args.own.test) {
            all.insert("test".into(), Value::String(place));
        }
    }
    all.retain(|id, _| command.get_arguments().any(|argument| argument.get_id().as_str() == id));
    Ok((options(command, all)?, chosen))
}

/// Formats a value for the command line: `Some(None)` for an option without a value, `None` for an option that is left out.
fn text(argument: &Arg, key: &str, value: Value) -> Result<Option<Option<String>>, String> {
    let takes_value = argument.get_action().takes_values();
    let needs_value = takes_value && argument.get_num_args().is_none_or(|values| values.min_values() > 0);
    let scalar = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is_on) => Ok(is_on.to_string()),
        _ => Err(format!("{key:?} is neither a text, a number, true or false, nor a list of these")),
    };
    match value {
        Value::Null => Ok(None),
        Value::Bool(_) if needs_value => Err(format!("{key:?} takes a value, not true or false")),
        Value::Bool(is_on) => Ok(is_on.then_some(None)),
        _ if !takes_value => Err(format!("{key:?} is true or false")),
        // An empty list is that of no hidden layer.
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) => Ok(Some(Some(list.into_iter().map(scalar).collect::<Result<Vec<_>, _>>()?.join(",")))),
        value => scalar(value).map(|text| Some(Some(text))),
    }
}
