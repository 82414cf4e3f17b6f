//! The scenarios of the MPI tests on ranks that are threads of one process, with and without the feature `mpi`.

use rankfold::{Error, ErrorKind, Role, World};

#[path = "programs/scenarios/mod.rs"]
mod scenarios;
mod support;

use support::run_alone;

const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

/// Plays a scenario on ranks that each have a world, and gives the error of each.
fn errors(ranks: usize, scenario: &[&str]) -> Vec<Error> {
    let arguments: Vec<String> = scenario.iter().map(ToString::to_string).collect();
    let texts = rankfold::threads(ranks, |world| match scenarios::play(world, &arguments) {
        Ok(()) => None,
        Err(error) => Some(*error.downcast::<Error>().expect("an error of Rankfold")),
    });
    texts.into_iter().map(|error| error.unwrap_or_else(|| panic!("{scenario:?} did not fail"))).collect()
}

/// Every rank has the same error; gives rank 0's, which is the one to report it.
fn same_error(ranks: usize, scenario: &[&str]) -> Error {
    let errors = errors(ranks, scenario);
    assert!(errors.iter().all(|error| error.to_string() == errors[0].to_string()), "{errors:?}");
    let reporters: Vec<bool> = errors.iter().map(Error::is_ours_to_report).collect();
    assert_eq!(reporters, (0..ranks).map(|rank| rank == 0).collect::<Vec<_>>());
    errors.into_iter().next().expect("rank 0")
}

fn succeeds(ranks: usize, scenario: &str) {
    let arguments = [scenario.to_owned()];
    for outcome in rankfold::threads(ranks, |world| scenarios::play(world, &arguments).map_err(|e| e.to_string())) {
        outcome.unwrap();
    }
    let world = World::local(ranks).unwrap();
    scenarios::play(&world, &arguments).unwrap();
}

#[test]
fn results_are_right_on_any_number_of_ranks() {
    for ranks in RANKS {
        for scenario in ["results", "large-results", "empty-with-identity", "recovers", "graph"] {
            succeeds(ranks, scenario);
        }
    }
}

#[test]
fn a_thousand_calls_follow_each_other() {
    for ranks in [1, 2, 4] {
        succeeds(ranks, "many-calls");
    }
}

#[test]
fn a_program_prints_the_same_for_any_rankfold_ranks() {
    for scenario in ["results", "large-results"] {
        let alone = run_alone(&[], &["test-spmd", scenario]);
        for ranks in ["1", "2", "7"] {
            let ended = run_alone(&[("RANKFOLD_RANKS", ranks)], &["test-plain", scenario]);
            assert_eq!(ended.output(), alone.output(), "{ended}");
        }
    }
}

#[test]
fn a_mapper_that_panics_on_rank_2_is_named_on_every_rank() {
    let error = same_error(4, &["mapper-panics"]);
    let ErrorKind::Panicked { role: Role::Mapper, place, item, message, .. } = error.kind() else { panic!("{error}") };
    assert_eq!((place.rank, message.as_str()), (2, "the mesh is torn"));
    assert!(item.starts_with("item "), "{item}");
}

#[test]
fn a_combiner_that_panics_names_its_items() {
    for ranks in RANKS {
        for scenario in ["combiner-panics-in-leaf", "combiner-panics-between-batches"] {
            let error = same_error(ranks, &[scenario]);
            assert!(matches!(error.kind(), ErrorKind::Panicked { role: Role::Combiner, .. }), "{error}");
        }
        let error = same_error(ranks, &["combiner-panics-at-the-end"]);
        let ErrorKind::Panicked { item, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(item, "the partials of items 0 to 4095");
    }
}

#[test]
fn a_mapper_that_panics_is_named_also_while_other_threads_are_in_its_batch() {
    for ranks in ["1", "2"] {
        let settings = [("RANKFOLD_RANKS", ranks), ("RANKFOLD_THREADS", "4")];
        let ended = run_alone(&settings, &["test-spmd", "mapper-panics-late"]);
        ended.says(&["@ at item 767: the mesh is torn"]).times(0, "cancelled");
    }
}

#[test]
fn a_mapper_that_works_for_a_minute_does_not_hold_up_an_error() {
    let ended = run_alone(&[("RANKFOLD_RANKS", "4")], &["test-spmd", "mapper-panics-while-another-works"]);
    ended.says(&["at item 0: the mesh is torn", "still compute 2 s later and cannot be interrupted"]);
    ended.times(1, "the mesh is torn");
}

#[test]
fn ranks_that_disagree_are_refused() {
    let scenarios = ["length", "type", "operation", "name", "contents", "source", "leaf"];
    for scenario in scenarios.map(|what| format!("other-{what}")) {
        let error = same_error(3, &[&scenario]);
        let ErrorKind::Disagreement { root, other, .. } = error.kind() else { panic!("{scenario}: {error}") };
        assert_eq!((root.rank, other.rank), (0, 1));
    }
}

#[test]
fn empty_input_is_the_same_error_on_every_rank() {
    for ranks in RANKS {
        for scenario in ["empty", "empty-on-root", "empty-from-root"] {
            let error = same_error(ranks, &[scenario]);
            assert!(matches!(error.kind(), ErrorKind::EmptyInput { .. }), "{error}");
        }
    }
}

#[test]
fn values_that_do_not_survive_the_wire_are_named() {
    for (scenario, doing) in
        [("cannot-encode", "encoded"), ("cannot-decode", "decoded"), ("result-cannot-be-decoded", "decoded")]
    {
        let error = same_error(4, &[scenario]);
        assert!(matches!(error.kind(), ErrorKind::Encoding { doing: said, .. } if said == doing), "{error}");
    }
    assert!(same_error(4, &["cannot-decode-item"]).to_string().contains("arrived but cannot be decoded"));
}

#[test]
fn a_file_that_one_rank_cannot_find_is_named() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let error = same_error(3, &["lines", here, "/no/such/file"]);
    let ErrorKind::Source { place, problem, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(place.rank, 1);
    assert!(problem.contains("/no/such/file"), "{problem}");
}

#[test]
fn a_rank_that_leaves_early_is_named_on_the_others() {
    for leaver in [0, 1, 3] {
        let outcomes = rankfold::threads(4, |world| {
            let arguments = ["returns".to_owned(), leaver.to_string()];
            scenarios::play(world, &arguments).map_err(|error| error.to_string())
        });
        for (rank, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(()) => assert_eq!(rank, leaver),
                Err(error) => assert!(error.contains(&format!("rank {leaver} (")), "{error}"),
            }
        }
    }
}

#[test]
fn a_rank_that_panics_outside_of_a_call_is_an_error_for_the_others() {
    for leaver in ["0", "1"] {
        let arguments = ["panics".to_owned(), leaver.to_owned()];
        let outcome = std::panic::catch_unwind(|| {
            rankfold::threads(3, |world| drop(scenarios::play(world, &arguments)));
        });
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "out of luck");
    }
}
