//! A graph on this thread, one node after the other: what a run in a pool has to give as well.

use std::sync::Arc;

use super::plan::{Task, distinct, schedule};
use super::{Graph, Nodes};
use crate::error::{Place, Result};
use crate::launch::host_name;
use crate::worker::kept::Kept;
use crate::worker::runner::{self, Made};

/// The values of these nodes; with `keeps_going`, or errors.
///
/// # Errors
///
/// Without `keeps_going`, that of the first node that fails.
pub(super) fn run(graph: &Graph, outputs: &[usize], keeps_going: bool) -> Result<Vec<(usize, Result<Arc<Kept>>)>> {
    let mut values: Vec<Option<Result<Arc<Kept>>>> = vec![None; graph.count()];
    // Each is a task of its own, since nothing is to be kept inside of one.
    let schedule = schedule(graph, outputs, |_| true, |_| false);
    let mut readers = schedule.readers;
    outputs.iter().for_each(|output| readers[*output] += 1);
    let place = this_place();
    for task in schedule.tasks {
        let Task::Run(steps) = task else { continue };
        let node = steps[0];
        let needs = graph.needs(node).iter();
        let inputs = needs.map(|need| values[*need].clone().expect("it was added before"));
        let inputs = inputs.collect::<Result<Vec<_>>>();
        let value = inputs
            .map_err(|error| graph.failed(node, error.of_who_needs()))
            .and_then(|inputs| one(graph, node, &inputs, &place));
        if let (Err(error), false) = (&value, keeps_going) {
            return Err(error.root().clone());
        }
        values[node] = Some(value);
        for need in distinct(graph.needs(node)) {
            readers[need] -= 1;
            if readers[need] == 0 {
                values[need] = None;
            }
        }
    }
    let mut wanted: Vec<usize> = outputs.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted.into_iter().map(|node| (node, values[node].take().expect("outputs are kept"))).collect())
}

/// Runs one node, as often as it may be tried.
fn one(graph: &Graph, node: usize, inputs: &[Arc<Kept>], place: &Place) -> Result<Arc<Kept>> {
    let entry = &graph.nodes[node];
    let function = entry.code.entry().expect("it is a function of this program");
    for attempt in 1.. {
        match runner::run(function, &entry.arguments, inputs.to_vec(), None) {
            Ok(Made::Small(bytes)) => return Ok(Arc::new(Kept::bytes(bytes, 0))),
            Ok(Made::Large(kept, _)) => return Ok(Arc::new(kept)),
            Ok(Made::State(_)) => unreachable!("nodes make values, and no actors"),
            Err(trouble) => {
                let error = graph.failed(node, trouble.into_error(node as u64, place));
                if !error.may_pass() || attempt > entry.options.retries {
                    return Err(error.after(attempt));
                }
            }
        }
    }
    unreachable!("attempts come to an end")
}

pub(super) fn this_place() -> Place {
    Place { rank: 0, host: host_name() }
}
