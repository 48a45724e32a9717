//! Joins the modules of a page into one script, for a page in one file: there a module cannot import another.
//!
//! It knows what the page's modules use: `import { a, b as c } from './file.js';` and `import * as name` at the start of a
//! line, and `export` before a declaration (not of `let`) at the start of a line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Result;

/// Joins a module and those that it imports.
pub fn bundled(folder: &Path, name: &str) -> Result<String> {
    let mut bundle = Bundle { folder, open: Vec::new(), done: BTreeMap::new(), script: String::new() };
    bundle.add(name)?;
    Ok(bundle.script)
}

struct Bundle<'a> {
    folder: &'a Path,
    /// The modules whose imports are being joined.
    open: Vec<String>,
    /// The variable that holds each module.
    done: BTreeMap<String, String>,
    script: String,
}

impl Bundle<'_> {
    /// Adds a module once, behind those that it imports; returns the variable that holds what it exports.
    fn add(&mut self, name: &str) -> Result<String> {
        let name = name.trim_start_matches("./");
        if let Some(variable) = self.done.get(name) {
            return Ok(variable.clone());
        }
        if self.open.iter().any(|open| open == name) {
            return Err(format!("{name}: its imports lead back to it").into());
        }
        self.open.push(name.to_owned());
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (mut body, mut exports) = (String::new(), Vec::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("import ") {
                let mut whole = line.to_owned();
                while !whole.contains(';') {
                    whole += lines.next().ok_or_else(|| format!("{name}: an import has no end"))?;
                }
                body += &self.import(name, &whole)?;
                body.push('\n');
                continue;
            }
            match line.strip_prefix("export ") {
                None => body += line,
                Some(declaration) => {
                    let words = declaration.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
                    let mut words = words.filter(|word| !["async", ""].contains(word));
                    let (kind, exported) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                    if !["const", "function", "class"].contains(&kind) || exported.is_empty() {
                        return Err(format!("{name}: `{line}` is no export that can be joined").into());
                    }
                    exports.push(exported.to_owned());
                    body += declaration;
                }
            }
            body.push('\n');
        }
        let variable = format!("module_{}", name.replace(|c: char| !c.is_alphanumeric(), "_"));
        self.script += &format!("const {variable} = await (async () => {{\n{body}return {{ {} }};\n}})();\n", exports.join(", "));
        self.open.pop();
        self.done.insert(name.to_owned(), variable.clone());
        Ok(variable)
    }

    /// The declaration that an import becomes.
    fn import(&mut self, name: &str, line: &str) -> Result<String> {
        let wrong = || format!("{name}: `{line}` is no import that can be joined");
        let (names, file) = line.trim_start_matches("import ").rsplit_once(" from ").ok_or_else(wrong)?;
        let file = file.trim().trim_end_matches(';').trim_matches(['\'', '"']);
        let variable = self.add(file)?;
        let names = names.trim();
        match names.strip_prefix("* as ") {
            Some(whole) => Ok(format!("const {whole} = {variable};")),
            None if names.starts_with('{') => Ok(format!("const {} = {variable};", names.replace(" as ", ": "))),
            None => Err(wrong().into()),
        }
    }
}
