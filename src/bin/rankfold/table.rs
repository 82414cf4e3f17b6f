//! Rows of words and numbers, aligned.

/// Rows as wide as their widest cells: numbers stand to the right of their columns, words to the left.
pub struct Table {
    /// The column of words, if there is one.
    words: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that begins with its header.
    pub fn new(words: Option<usize>, header: Vec<String>) -> Self {
        Self { words, rows: vec![header] }
    }

    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let cell = |(column, cell): (usize, &String)| match widths[column] {
                width if Some(column) == self.words => format!("{cell:<width$}"),
                width => format!("{cell:>width$}"),
            };
            let line: Vec<String> = row.iter().enumerate().map(cell).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}
