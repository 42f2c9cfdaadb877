//! The tasks of a chapter, as its exercise.toml has them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use cooperage::told::errors::{Error, Result};
use cooperage::workshop::chapters;

/// A chapter's exercise.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exercise {
    /// The chapter's number.
    pub chapter: u8,
    /// What the chapter is called.
    pub title: String,
    /// Its tasks, in order.
    #[serde(rename = "task")]
    pub tasks: Vec<Task>,
    /// Wrong answers that the grader must catch. A student's edition has none.
    #[serde(rename = "mutant", default)]
    pub mutants: Vec<Mutant>,
    /// Where it was read from.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// One task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Such as "5.2".
    pub id: String,
    /// What it is called.
    pub title: String,
    /// What it is worth.
    pub points: u32,
    /// How difficult it is, from 1 to 3.
    pub stars: u8,
    /// How long it takes.
    pub minutes: u32,
    /// The tasks that must pass first.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The section of the book's chapter to reread.
    pub section: String,
    /// Three hints, the last nearly the code.
    pub hints: Vec<String>,
}

/// A wrong answer: the solution with one text replaced.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// What it is called.
    pub name: String,
    /// The text in solution.rs, which occurs once.
    pub find: String,
    /// What stands in its place.
    pub replace: String,
    /// The tasks that it must not pass.
    pub loses: Vec<String>,
}

impl Exercise {
    /// Reads a chapter's tasks.
    pub fn read(root: &Path, chapter: u8) -> Result<Exercise> {
        let directory = chapters::directory(root, chapter)?;
        let file = directory.join("exercise.toml");
        let text = fs::read_to_string(&file)
            .map_err(|error| Error::io("read the exercise's tasks", &file, &error))?;
        let mut exercise = Exercise::parse(&text).map_err(|error| {
            Error::new("read the exercise's tasks", format!("{}: {error}", file.display()))
        })?;
        exercise.directory = directory;
        Ok(exercise)
    }

    fn parse(text: &str) -> Result<Exercise, String> {
        let exercise: Exercise = toml::from_str(text).map_err(|error| error.to_string())?;
        let known = |id: &String| exercise.tasks.iter().any(|task| task.id == *id);
        for task in &exercise.tasks {
            if !task.id.starts_with(&format!("{}.", exercise.chapter)) {
                return Err(format!("task {} is not of chapter {}", task.id, exercise.chapter));
            }
            if let Some(need) = task.needs.iter().find(|need| !known(need) || **need == task.id) {
                return Err(format!("task {} needs {need}, which is no other task", task.id));
            }
        }
        for mutant in &exercise.mutants {
            if let Some(lost) = mutant.loses.iter().find(|id| !known(id)) {
                return Err(format!("mutant {} loses {lost}, which is no task", mutant.name));
            }
        }
        Ok(exercise)
    }

    /// One of its tasks.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }
}
