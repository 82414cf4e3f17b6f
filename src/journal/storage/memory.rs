//! Files in memory, and what a power loss may make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use rand::RngExt;

use super::{Pen, Roll, Storage, folder_of};

/// What a disk that lies may make of a file: each bit flipped, and cut at each byte.
pub(crate) fn damaged(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    flips.chain((0..whole.len()).map(|cut| whole[..cut].to_vec()))
}

/// A folder in memory. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// Contents, by number; names refer to them.
    contents: Vec<Content>,
    /// What programs see.
    names: BTreeMap<String, usize>,
    /// What is on the disk for sure.
    durable: BTreeMap<String, usize>,
    steps: u64,
    /// The power is lost before this step.
    dies_at: Option<u64>,
    /// Steps that fail.
    fails: BTreeSet<u64>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What of it is on the disk for sure.
    durable: Vec<u8>,
    /// It only grows, so that what is durable of it stays.
    grows: bool,
}

impl Memory {
    /// The steps made so far.
    pub fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// Nothing works from this step on.
    pub fn die_at(&self, step: u64) {
        self.0.lock().unwrap().dies_at = Some(step);
    }

    /// This step fails, as on a full disk.
    pub fn fail_at(&self, step: u64) {
        self.0.lock().unwrap().fails.insert(step);
    }

    pub fn is_dead(&self) -> bool {
        let disk = self.0.lock().unwrap();
        disk.dies_at.is_some_and(|end| disk.steps >= end)
    }

    /// A folder of its own with the same files.
    pub fn copy(&self) -> Self {
        let disk = self.0.lock().unwrap();
        let (contents, names) = (disk.contents.clone(), disk.names.clone());
        Self(Arc::new(Mutex::new(Disk { contents, durable: names.clone(), names, ..Disk::default() })))
    }

    /// What is found after a power loss: all that was synced; of the rest, whatever chance has left.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let disk = self.0.lock().unwrap();
        let dice = &mut crate::random::rng(seed, 0);
        let contents = disk.contents.iter().map(|content| {
            let bytes = if content.bytes == content.durable || dice.random_bool(0.5) {
                content.durable.clone()
            } else {
                // The file has its new length or less of it, and what was not written out reads as zeros.
                let mut bytes = content.bytes.clone();
                let least = if content.grows { content.durable.len() } else { 0 };
                bytes.truncate(dice.random_range(least..=bytes.len()));
                if dice.random_bool(0.3) {
                    let from = dice.random_range(least..=bytes.len());
                    bytes[from..].fill(0);
                }
                bytes
            };
            Content { durable: bytes.clone(), bytes, grows: content.grows }
        });
        let contents = contents.collect();
        // Each change of a name that was not synced may have happened or not.
        let all: BTreeSet<&String> = disk.names.keys().chain(disk.durable.keys()).collect();
        let choose = |name: &&String| {
            let (new, old) = (disk.names.get(*name), disk.durable.get(*name));
            let found = if new == old || dice.random_bool(0.5) { new } else { old };
            found.map(|content| ((*name).clone(), *content))
        };
        let names: BTreeMap<String, usize> = all.iter().filter_map(choose).collect();
        let disk = Disk { contents, durable: names.clone(), names, ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    fn step<R>(&self, change: impl FnOnce(&mut Disk) -> io::Result<R>) -> io::Result<R> {
        let mut disk = self.0.lock().unwrap();
        if disk.dies_at.is_some_and(|end| disk.steps >= end) {
            return Err(io::Error::other("the power is gone"));
        }
        disk.steps += 1;
        let step = disk.steps;
        if disk.fails.contains(&step) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change(&mut disk)
    }
}

impl Disk {
    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for Memory {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.step(|disk| Ok(disk.names.keys().filter(|name| name.starts_with(&below)).cloned().collect()))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.step(|disk| disk.find(name).map(|content| disk.contents[content].bytes.clone()))
    }

    fn make_folder(&self, _: &str) -> io::Result<()> {
        self.step(|_| Ok(()))
    }

    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.step(|disk| {
            if disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.contents.push(Content { bytes: content.to_vec(), ..Content::default() });
            disk.names.insert(name.to_owned(), disk.contents.len() - 1);
            Ok(())
        })
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.step(|disk| {
            let Ok(found) = disk.find(name) else {
                disk.contents.push(Content { bytes: content.to_vec(), ..Content::default() });
                disk.names.insert(name.to_owned(), disk.contents.len() - 1);
                return Ok(());
            };
            disk.contents[found].bytes = content.to_vec();
            Ok(())
        })
    }

    fn put_durably(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.put(name, content)?;
        self.step(|disk| {
            let found = disk.find(name)?;
            let content = &mut disk.contents[found];
            content.durable.clone_from(&content.bytes);
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.step(|disk| {
            disk.durable.retain(|name, _| folder_of(name) != folder);
            let names = disk.names.iter().filter(|(name, _)| folder_of(name) == folder);
            disk.durable.extend(names.map(|(name, content)| (name.clone(), *content)));
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(|disk| {
            let content = disk.find(from)?;
            disk.names.remove(from);
            disk.names.insert(to.to_owned(), content);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step(|disk| {
            disk.find(name)?;
            disk.names.remove(name);
            Ok(())
        })
    }

    fn roll(&self, name: &str) -> io::Result<Box<dyn Roll>> {
        self.create(name, b"")?;
        self.step(|disk| {
            let content = disk.find(name)?;
            disk.contents[content].grows = true;
            Ok(Box::new(Growing { memory: self.clone(), content }) as Box<dyn Roll>)
        })
    }

    fn pen(&self, name: &str) -> io::Result<Box<dyn Pen>> {
        Ok(Box::new(Page { memory: self.clone(), name: name.to_owned() }))
    }
}

struct Growing {
    memory: Memory,
    content: usize,
}

impl Roll for Growing {
    fn append(&mut self, content: &[u8]) -> io::Result<()> {
        // A disk that is full takes a part.
        self.memory.step(|disk| {
            disk.contents[self.content].bytes.extend(&content[..content.len() / 2]);
            Ok(())
        })?;
        self.memory.step(|disk| {
            disk.contents[self.content].bytes.extend(&content[content.len() / 2..]);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.memory.step(|disk| {
            let content = &mut disk.contents[self.content];
            content.durable.clone_from(&content.bytes);
            Ok(())
        })
    }
}

struct Page {
    memory: Memory,
    name: String,
}

impl Pen for Page {
    fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.memory.put(&self.name, content)
    }
}
