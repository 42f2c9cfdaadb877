//! A table: in the terminal, and as Markdown in the book.

use std::path::Path;

use super::Outcome;

pub struct Table {
    file: &'static str,
    title: String,
    rows: Vec<Vec<String>>,
    remarks: Vec<String>,
}

impl Table {
    pub fn new(file: &'static str, title: &str, head: &[&str]) -> Table {
        let head = head.iter().map(|cell| cell.to_string()).collect();
        Table { file, title: title.to_string(), rows: vec![head], remarks: Vec::new() }
    }

    pub fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|cell| cell.to_string()).collect());
    }

    /// A line below the table.
    pub fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }

    pub fn print(&self) {
        println!("\n{}\n", self.title);
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                // Words to the left, figures to the right.
                .map(|(index, (cell, width))| match index {
                    0 => format!("{cell:<width$}"),
                    _ if cell.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()) => {
                        format!("{cell:>width$}")
                    }
                    _ => format!("{cell:<width$}"),
                })
                .collect();
            println!("  {}", cells.join("  ").trim_end());
        }
        for remark in &self.remarks {
            println!("  {remark}");
        }
    }

    pub fn write(&self) -> Outcome {
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if index == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/costs");
        std::fs::create_dir_all(&directory)?;
        Ok(std::fs::write(directory.join(format!("{}.md", self.file)), text)?)
    }
}
