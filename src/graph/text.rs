//! A graph as text: DOT for pictures, JSON for programs. The same graph gives the same text.

use std::fmt::Write;

use super::{Entry, Graph, Nodes};

impl Graph {
    /// The graph in the language of Graphviz: a box for each node, named if the node is, and an arrow from each to those
    /// that need it. `program --dot | dot -Tsvg > graph.svg` draws it.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut graph = rankfold::Graph::new();
    /// let a = graph.named("a").add(|| 1u32, ())?;
    /// graph.named("b").add(|n: &u32| n + 1, (&a,))?;
    /// let dot = graph.to_dot();
    /// assert!(dot.starts_with("digraph {\n") && dot.contains("  n0 -> n1;\n"), "{dot}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
        for (number, entry) in self.nodes.iter().enumerate() {
            let function = dot_text(&short(entry.function));
            let label = match &entry.name {
                Some(name) => format!("{}\\n{function}", dot_text(name)),
                None => function,
            };
            let _ = writeln!(text, "  n{number} [label=\"{label}\"];");
        }
        for number in 0..self.count() {
            for need in self.needs(number) {
                let _ = writeln!(text, "  n{need} -> n{number};");
            }
        }
        text + "}\n"
    }

    /// The graph as JSON: an array of nodes, in the order of their addition, each with its name (or `null`), the types of
    /// its function and value, the bytes of its arguments, the numbers of the nodes that it needs, and what was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut graph = rankfold::Graph::new();
    /// let a = graph.named("a \"quoted\"").add(u32::count_ones, (7,))?;
    /// graph.node().retries(2).add(|n: &u32| n + 1, (&a,))?;
    /// let json = graph.to_json();
    /// assert!(json.contains(r#""name": "a \"quoted\"", "#), "{json}");
    /// assert!(json.contains(r#""needs": [0], "priority": 0, "retries": 2, "on": null}"#), "{json}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::from("{\"nodes\": [");
        for (number, entry) in self.nodes.iter().enumerate() {
            let Entry { name, function, result, arguments, needs, options, .. } = entry;
            let name = name.as_deref().map_or_else(|| "null".to_owned(), json_text);
            let on = options.on.map_or_else(|| "null".to_owned(), |rank| rank.to_string());
            let _ = write!(
                text,
                "{}\n  {{\"number\": {number}, \"name\": {name}, \"function\": {}, \"result\": {}, \"bytes\": {}, \
                 \"needs\": {needs:?}, \"priority\": {}, \"retries\": {}, \"on\": {on}}}",
                if number > 0 { "," } else { "" },
                json_text(function),
                json_text(result),
                arguments.len(),
                options.priority,
                options.retries,
            );
        }
        text + "\n]}\n"
    }
}

/// The name of a function without its path and parameters.
fn short(function: &str) -> String {
    let path = function.trim_end_matches("::{{closure}}");
    let note = if path.len() < function.len() { " (closure)" } else { "" };
    let (mut depth, mut end) = (0, path.len());
    for (at, character) in path.char_indices().rev().take_while(|_| path.ends_with('>')) {
        depth += i32::from(character == '>') - i32::from(character == '<');
        if depth == 0 {
            end = at;
            break;
        }
    }
    let start = path[..end].rfind("::").map_or(0, |at| at + 2);
    format!("{}{note}", &path[start..end])
}

fn dot_text(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\n' | '\r' => escaped.push_str("\\n"),
            _ => escaped.push(character),
        }
        escaped
    })
}

/// A string of JSON (RFC 8259, section 7).
fn json_text(text: &str) -> String {
    let mut escaped = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\0'..='\x1f' => _ = write!(escaped, "\\u{:04x}", u32::from(character)),
            _ => escaped.push(character),
        }
    }
    escaped + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_each_language_wants_it() {
        assert_eq!(dot_text("a \"b\"\\\nc"), "a \\\"b\\\"\\\\\\nc");
        assert_eq!(json_text("a \"b\"\\\n\u{1}é\t"), "\"a \\\"b\\\"\\\\\\n\\u0001é\\t\"");
        assert_eq!(json_text("\u{7f}\u{2028}"), "\"\u{7f}\u{2028}\"");
    }

    #[test]
    fn functions_are_called_by_their_last_names() {
        assert_eq!(short("report::tables::load"), "load");
        assert_eq!(short("report::main::{{closure}}"), "main (closure)");
        assert_eq!(short("report::sum<alloc::vec::Vec<u8>>"), "sum");
        assert_eq!(short("core::num::<impl u32>::count_ones"), "count_ones");
        assert_eq!(short("load"), "load");
    }
}
