//! A page as mdBook reads it: what it includes, its headings, its links, its code.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::root;

/// Where the pages are.
pub fn source_directory() -> PathBuf {
    root().join("book/src")
}

/// One page.
pub struct Page {
    /// Such as 05-network.md.
    pub name: String,
    /// Its text, as it is written.
    pub text: String,
}

/// `{{#include FILE:PART}}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// As it is written.
    pub written: String,
    /// The file, from the crate's directory.
    pub file: PathBuf,
    /// What stands behind the file's name: a region, or lines.
    pub part: Option<String>,
}

/// A block of code.
#[derive(Debug)]
pub struct Block {
    /// What it is marked with; nothing for one that is only indented.
    pub language: String,
    /// What is in it, as it is written.
    pub text: String,
    /// The title of the section that it is in.
    pub section: String,
}

/// A heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// From 1.
    pub level: usize,
    /// Its words, without marks.
    pub title: String,
    /// What a link to it ends in.
    pub id: String,
}

/// `code` in a sentence.
#[derive(Debug)]
pub struct Span {
    /// What is in it.
    pub text: String,
    /// The title of the level-2 section that it is in.
    pub section: String,
}

impl Page {
    /// Reads a page.
    pub fn read(name: &str) -> Page {
        let path = source_directory().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { name: name.to_string(), text }
    }

    /// The number of the chapter whose page it is.
    pub fn chapter(&self) -> Option<u8> {
        self.name.split_once('-').and_then(|(number, _)| number.parse().ok())
    }

    /// All that it includes.
    pub fn includes(&self) -> Vec<Include> {
        includes(&self.text)
    }

    /// The page with all that it includes in its place.
    pub fn expanded(&self) -> String {
        let mut text = self.text.clone();
        for include in self.includes() {
            let found = resolve(&include).unwrap_or_default();
            text = text.replacen(&include.written, &found, 1);
        }
        text
    }

    /// The blocks of code, with what they include left as it is written.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut section = Section::default();
        let mut current: Option<Block> = None;
        for event in parse(&self.text) {
            section.see(&event);
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    current = Some(Block { language, text: String::new(), section: section.title.clone() });
                }
                Event::Text(text) => {
                    if let Some(block) = &mut current {
                        block.text.push_str(&text);
                    }
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(current.take()),
                _ => {}
            }
        }
        blocks
    }

    /// The code in its sentences.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut section = Section::default();
        for event in parse(&self.text) {
            section.see(&event);
            if let Event::Code(text) = event {
                spans.push(Span { text: text.to_string(), section: section.title.clone() });
            }
        }
        spans
    }

    /// Its headings, with those of what it includes.
    pub fn headings(&self) -> Vec<Heading> {
        let mut headings: Vec<Heading> = Vec::new();
        let mut current: Option<Heading> = None;
        for event in parse(&self.expanded()) {
            match event {
                Event::Start(Tag::Heading { level, id, .. }) => {
                    let id = id.map(|id| id.to_string()).unwrap_or_default();
                    current = Some(Heading { level: number(level), title: String::new(), id });
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut current {
                        heading.title.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    if let Some(mut heading) = current.take() {
                        if heading.id.is_empty() {
                            heading.id = id_of(&heading.title, &headings);
                        }
                        headings.push(heading);
                    }
                }
                _ => {}
            }
        }
        headings
    }

    /// Where its links and images lead, with those of what it includes.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for event in parse(&self.expanded()) {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
                links.push(dest_url.to_string());
            }
        }
        links
    }

    /// Ids that its HTML has.
    pub fn html_ids(&self) -> Vec<String> {
        let expanded = self.expanded();
        let rest = expanded.split("id=\"").skip(1);
        rest.filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_string()).collect()
    }

    /// How many words of prose it has: not code, not pictures, not what it includes.
    pub fn words(&self) -> usize {
        let mut prose = String::new();
        let mut in_code = false;
        for event in parse(&self.text) {
            match event {
                Event::Start(Tag::CodeBlock(_)) => in_code = true,
                Event::End(TagEnd::CodeBlock) => in_code = false,
                Event::Text(text) | Event::Code(text) if !in_code && !text.contains("{{#include") => {
                    prose.push_str(&text);
                }
                Event::SoftBreak | Event::HardBreak | Event::End(_) => prose.push(' '),
                _ => {}
            }
        }
        prose.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
    }

    /// The text of a level-2 section, as it is written.
    pub fn section(&self, title: &str) -> Option<String> {
        let heading = format!("## {title}");
        let mut lines = self.text.lines().skip_while(|line| line.trim_end() != heading);
        lines.next()?;
        let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
        Some(lines.join("\n"))
    }
}

/// The level-2 section in which the parser is.
#[derive(Default)]
struct Section {
    title: String,
    reading: bool,
}

impl Section {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
                self.title.clear();
                self.reading = true;
            }
            Event::End(TagEnd::Heading(HeadingLevel::H2)) => self.reading = false,
            Event::Text(text) | Event::Code(text) if self.reading => self.title.push_str(text),
            _ => {}
        }
    }
}

fn number(level: HeadingLevel) -> usize {
    level as usize
}

fn parse(text: &str) -> Vec<Event<'_>> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_GFM;
    Parser::new_ext(text, options).collect()
}

/// What mdBook makes of a heading's words: a name that no heading above it has.
fn id_of(title: &str, above: &[Heading]) -> String {
    let plain: String = title
        .trim()
        .chars()
        .filter_map(|c| match c {
            _ if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            _ if c.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect();
    let taken = |id: &str| above.iter().any(|heading| heading.id == id);
    if !taken(&plain) {
        return plain;
    }
    (1..).map(|n| format!("{plain}-{n}")).find(|id| !taken(id)).unwrap_or(plain)
}

/// All `{{#...}}` in a text.
pub fn includes(text: &str) -> Vec<Include> {
    let mut found = Vec::new();
    for rest in text.split("{{#").skip(1) {
        let Some((inside, _)) = rest.split_once("}}") else { continue };
        let written = format!("{{{{#{inside}}}}}");
        let (word, what) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
        assert!(word == "include", "{written}: of mdBook's helpers only #include is used here");
        let what = what.trim();
        let (file, part) = match what.split_once(':') {
            Some((file, part)) => (file, Some(part.to_string())),
            None => (what, None),
        };
        found.push(Include { written, file: clean(&source_directory().join(file)), part });
    }
    found
}

/// The path from the crate's directory, without `..`.
fn clean(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain.strip_prefix(root()).map(Path::to_path_buf).unwrap_or(plain)
}

/// The text that mdBook would put there; or why there is none.
pub fn resolve(include: &Include) -> Result<String, String> {
    let path = root().join(&include.file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", include.file.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    let Some(part) = &include.part else { return Ok(text) };
    let numbers: Vec<&str> = part.split(':').collect();
    let kept: Vec<&str> = if numbers.iter().all(|word| word.is_empty() || word.parse::<usize>().is_ok()) {
        let first: usize = numbers[0].parse().unwrap_or(1);
        let last: usize = match numbers.get(1) {
            None => first,
            Some(word) => word.parse().unwrap_or(lines.len()),
        };
        lines.get(first.saturating_sub(1)..last.min(lines.len())).unwrap_or_default().to_vec()
    } else {
        region(&lines, part).ok_or_else(|| {
            format!("{} has no region {part:?}: `// ANCHOR: {part}` begins one", include.file.display())
        })?
    };
    if kept.iter().all(|line| line.trim().is_empty()) {
        return Err(format!("{} is empty", include.written));
    }
    Ok(kept.join("\n"))
}

/// The lines between `ANCHOR: name` and `ANCHOR_END: name`, without the marks of other regions.
fn region<'a>(lines: &[&'a str], name: &str) -> Option<Vec<&'a str>> {
    let is = |line: &str, mark: &str| anchor(line, mark).as_deref() == Some(name);
    let first = lines.iter().position(|line| is(line, "ANCHOR:"))?;
    let last = lines.iter().skip(first).position(|line| is(line, "ANCHOR_END:"))? + first;
    let is_mark = |line: &str| anchor(line, "ANCHOR:").or(anchor(line, "ANCHOR_END:")).is_some();
    Some(lines[first + 1..last].iter().copied().filter(|line| !is_mark(line)).collect())
}

/// The name after `ANCHOR:` or `ANCHOR_END:`.
pub fn anchor(line: &str, mark: &str) -> Option<String> {
    let (_, name) = line.split_once(mark)?;
    let name: String =
        name.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
