//! Cuts of files at any byte, against the lines that `str::lines` gives.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::source::compressed::Compression;
use crate::source::files::OPEN_FILES;

/// Files 0, 1, 2... of a folder of their own, gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn with<C: AsRef<[u8]>>(contents: impl IntoIterator<Item = C>) -> (Folder, Lines) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rankfold-lines-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        let write = |(number, content): (usize, C)| {
            let path = folder.0.join(number.to_string());
            fs::write(&path, content).unwrap();
            path
        };
        let files = lines(contents.into_iter().enumerate().map(write).collect::<Vec<_>>());
        (folder, files)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn all(files: &Lines) -> Vec<Line> {
    files.read(&(), 0..files.len().unwrap()).unwrap().into_iter().collect()
}

/// For each line, the index of its first byte: the rule of the source, told by other means.
fn reference(contents: &[String]) -> Vec<(u64, String)> {
    let mut index = 0;
    let mut expected = Vec::new();
    for content in contents {
        for line in content.split_inclusive('\n') {
            expected.push((index, line.lines().next().unwrap().to_owned()));
            index += line.len() as u64;
        }
    }
    expected
}

fn text() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec!["\n", "\r\n", "\r", "a", "é", "€", "😀", "line", "\n\n"]);
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn every_cut_gives_each_line_to_the_range_of_its_first_byte(
        contents in prop::collection::vec(text(), 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (_folder, files) = Folder::with(&contents);
        let len = files.len().unwrap();
        let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut.index(len as usize + 1) as u64).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
            cuts.dedup();
        let expected = reference(&contents);
        let by_str_lines: Vec<&str> = contents.iter().flat_map(|content| content.lines()).collect();
        prop_assert_eq!(all(&files), by_str_lines);

        let mut joined = String::new();
        for (nth, start) in cuts.iter().enumerate() {
            for end in &cuts[nth..] {
                let text = files.read(&(), *start..*end).unwrap();
                let inside = expected.iter().filter(|(index, _)| (start..end).contains(&index));
                let inside: Vec<&str> = inside.map(|(_, line)| line.as_str()).collect();
                prop_assert_eq!(text.lines().collect::<Vec<_>>(), inside.clone());
                if cuts.get(nth + 1) == Some(end) {
                    joined.push_str(text.as_str());
                }
                prop_assert_eq!(text.into_iter().collect::<Vec<_>>(), inside);
            }
        }
        let whole = files.read(&(), 0..len).unwrap();
        prop_assert_eq!(whole.as_str(), joined);
    }
}

proptest! {
    #[test]
    fn all_lines_of_a_compressed_file_belong_to_its_first_byte(
        contents in prop::collection::vec((text(), prop::sample::select(vec!["txt", "gz", "zst"])), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let (folder, _) = Folder::with::<&str>([]);
        let write = |(number, (content, extension)): (usize, &(String, &str))| {
            let path = folder.0.join(format!("{number}.{extension}"));
            let bytes = Compression::of(&path).map_or_else(|| content.clone().into_bytes(), |how| how.compress(content.as_bytes()));
            fs::write(&path, bytes).unwrap();
            path
        };
        let files = lines(contents.iter().enumerate().map(write).collect::<Vec<_>>());
        let expected: Vec<&str> = contents.iter().flat_map(|(content, _)| content.lines()).collect();
        prop_assert_eq!(all(&files), expected.clone());
        let (len, mut found) = (files.len().unwrap(), Vec::new());
        let cut = cut.index(len as usize + 1) as u64;
        for range in [0..cut, cut..len] {
            let text = files.read(&(), range.clone()).unwrap();
            for (nth, line) in text.into_iter().enumerate() {
                prop_assert!(files.describe(range.clone(), nth as u64).starts_with("line "));
                found.push(line);
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn what_is_wrong_with_a_compressed_file_is_told_with_its_name() {
    let (folder, _) = Folder::with::<&str>([]);
    let read = |name: &str, bytes: &[u8]| {
        fs::write(folder.0.join(name), bytes).unwrap();
        let files = lines([folder.0.join(name)]);
        files.read(&(), 0..files.len().unwrap()).unwrap_err()
    };
    for name in ["text.gz", "text.zst"] {
        let error = read(name, b"just text, and some more of it");
        assert!(error.problem.starts_with("cannot decompress /") && error.problem.contains(name), "{error}");
        assert!(
            error.remedy.contains(" -t /") && error.remedy.contains("needs a name that does not say so"),
            "{error}"
        );
    }
    let latin = read("latin.gz", &Compression::Gzip.compress(b"good\ncaf\xE9\n"));
    assert!(
        latin.problem.ends_with("latin.gz is not UTF-8: no character begins with the byte 0xE9 at offset 8"),
        "{latin}"
    );
}

#[test]
fn a_line_longer_than_many_ranges_comes_once_and_whole() {
    let long = "€".repeat(1_500_000);
    let (_folder, files) = Folder::with([format!("first\n{long}\r\nlast"), long.clone()]);
    let len = files.len().unwrap();
    let mut found = Vec::new();
    for start in (0..len).step_by(65_536) {
        found.extend(files.read(&(), start..len.min(start + 65_536)).unwrap());
    }
    assert!(found == ["first", &long, "last", &long]);
}

#[test]
fn offsets_beyond_4_gib_and_more_files_than_are_kept_open_work() {
    let (folder, files) = Folder::with((0..150).map(|number| format!("{number}\nx")));
    let expected: Vec<String> = (0..150).flat_map(|number| [number.to_string(), "x".to_owned()]).collect();
    assert_eq!(all(&files), expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(files.files.open.lock().unwrap().len(), OPEN_FILES);

    let place = 9 << 29;
    let sparse = File::create(folder.0.join("0")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    sparse.write_all_at(b"\nfar\n", place).unwrap();
    let files = lines([folder.0.join("0")]);
    assert_eq!(files.len(), Ok(5 << 30));
    assert_eq!(files.read(&(), place - 5..place + 5).unwrap().lines().collect::<Vec<_>>(), ["far"]);
}

#[test]
fn invalid_bytes_are_named_or_replaced_alike_for_every_cut() {
    let (folder, files) = Folder::with([&b"good\n"[..], b"caf\xE9 \xE2\x82\nbad \xF0\x9F\x98", b"\x80\xFFend\n"]);
    let error = files.read(&(), 2..20).unwrap_err();
    let problem =
        format!("{} is not UTF-8: no character begins with the byte 0xE9 at offset 3", folder.0.join("1").display());
    assert_eq!(error.problem, problem);
    assert!(error.remedy.contains("lossy()"));
    assert!(files.read(&(), 20..22).unwrap_err().problem.contains("byte 0x80 at offset 0"));

    let files = files.lossy();
    let expected = ["good", "caf\u{FFFD} \u{FFFD}", "bad \u{FFFD}", "\u{FFFD}\u{FFFD}end"];
    for cut in 0..=files.len().unwrap() {
        let mut found: Vec<Line> = files.read(&(), 0..cut).unwrap().into_iter().collect();
        found.extend(files.read(&(), cut..files.len().unwrap()).unwrap());
        assert_eq!(found, expected);
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_name_and_a_remedy() {
    let (folder, files) = Folder::with(["one\ntwo\n"]);
    let missing = lines([folder.0.join("absent")]).len().unwrap_err();
    assert!(missing.problem.contains("absent: No such file"), "{missing}");
    assert!(missing.remedy.contains("every rank reads its own part"));
    let directory = lines([&folder.0]).len().unwrap_err();
    assert!(directory.problem.ends_with("is a folder"), "{directory}");
    let device = lines(["/dev/null"]).len().unwrap_err();
    assert!(device.problem.ends_with("is not a regular file"), "{device}");

    assert_eq!(all(&files), ["one", "two"]);
    File::options().write(true).open(folder.0.join("0")).unwrap().set_len(5).unwrap();
    let shrunk = files.read(&(), 0..8).unwrap_err();
    assert!(shrunk.problem.contains("has become shorter while it was read"), "{shrunk}");
}

#[test]
fn the_fingerprint_tells_names_and_lengths_but_not_folders() {
    let (_one, first) = Folder::with(["ab", "c"]);
    let (_two, same) = Folder::with(["xy", "z"]);
    let (_three, other) = Folder::with(["a", "bc"]);
    assert_eq!(first.fingerprint(), same.fingerprint());
    assert_ne!(first.fingerprint(), other.fingerprint());
    assert_eq!(lines::<&str>([]).len(), Ok(0));
}

#[test]
fn a_leaf_is_large_enough_to_read_and_there_are_few_enough() {
    let leaf = |len| Source::leaf(&lines::<&str>([]), len);
    assert_eq!((leaf(0), leaf(1 << 28), leaf(1 << 35), leaf(1 << 42)), (64, 1 << 20, 1 << 22, 1 << 22));
}

#[test]
fn a_line_is_described_by_its_file_and_the_start_of_its_range() {
    let (folder, files) = Folder::with(["a\nb\nc", "", "d\ne\n"]);
    let name = |file: &str| folder.0.join(file).display().to_string();
    assert_eq!(files.describe(0..9, 2), format!("line 3 of {}", name("0")));
    assert_eq!(files.describe(3..9, 0), format!("line 1 after byte 3 of {}", name("0")));
    assert_eq!(files.describe(3..9, 2), format!("line 2 of {}", name("2")));
}

#[test]
fn a_line_is_a_str_that_can_be_sent() {
    let (_folder, files) = Folder::with(["tab\there\n"]);
    let line = all(&files).remove(0);
    let line = std::thread::spawn(move || line).join().unwrap();
    assert_eq!((line.len(), line.as_ref(), line.clone()), (8, "tab\there", line.clone()));
    assert_eq!(format!("{line} {line:?}"), "tab\there \"tab\\there\"");
}

#[test]
fn a_buffer_is_used_again_when_nobody_holds_a_line_of_it_and_not_before() {
    let (_folder, files) = Folder::with(["a longer line\nb\n", "c"]);
    let address = |text: &Text| text.as_str().as_ptr();
    let first = files.read(&(), 0..4).unwrap();
    let (before, kept) = (address(&first), first.into_iter().next().unwrap());
    let second = files.read(&(), 14..16).unwrap();
    assert_ne!(address(&second), before);
    assert_eq!((&*kept, second.as_str()), ("a longer line", "b\n"));
    drop(kept);
    let third = files.read(&(), 16..17).unwrap();
    assert_eq!((address(&third), third.as_str()), (before, "c\n"));
}
