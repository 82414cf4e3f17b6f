//! The example `scale_study`: what it prints and draws.

mod support;

use std::process::Command;

use support::{HANGS, program, run};

#[test]
fn a_quick_study_compares_five_schedulers_and_draws_them() {
    let folder = std::env::temp_dir().join(format!("rankfold-study-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [svg, csv] = ["study.svg", "study.csv"].map(|name| folder.join(name));
    let mut command = Command::new(program("scale_study"));
    command.arg("--quick").arg("--svg").arg(&svg).arg("--csv").arg(&csv);
    let ended = run(command, HANGS);
    let output = ended.output();
    let [svg, csv] = [svg, csv].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::remove_dir_all(folder).unwrap();

    assert!(output.starts_with("135 ranks, 10^9 points"), "{ended}");
    let rows: Vec<&str> = output.lines().skip_while(|line| !line.starts_with("workload")).collect();
    let rows = &rows[..=rows.iter().position(|row| row.starts_with("geometric mean")).expect("the table's last row")];
    assert_eq!(rows.len(), 11, "a head, nine cells, and the means: {ended}");
    assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "the table is crooked: {ended}");

    let efficiency = |scheme: &str| -> f64 {
        let line = csv.lines().find(|line| line.starts_with(&format!("135,ramp up,0.001,{scheme},"))).expect(scheme);
        line.split(',').nth(6).unwrap().parse().unwrap()
    };
    assert!(efficiency("Rankfold") > 1.5 * efficiency("static"), "{ended}");
    assert_eq!(csv.lines().count(), 1 + 9 * 5);

    assert_eq!(elements_left_open(&svg), Vec::<&str>::new());
    // A mark for each row and scheduler, and for each scheduler in the legend.
    assert_eq!(svg.matches("<g transform").count(), 9 * 5 + 5);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn heavy_tails_are_measured_with_several_seeds_and_their_spread_is_told() {
    let csv = std::env::temp_dir().join(format!("rankfold-seeds-{}.csv", std::process::id()));
    let mut command = Command::new(program("scale_study"));
    command.args(["--quick", "--workloads", "uniform,pareto", "--seeds", "3", "--csv"]).arg(&csv);
    let ended = run(command, HANGS);
    let numbers = std::fs::read_to_string(&csv).unwrap();
    std::fs::remove_file(csv).unwrap();

    assert!(ended.output().contains("Pareto, 1 ms: the geometric mean of 3 seeds"), "{ended}");
    let seeds = |workload: &str| -> Vec<&str> {
        let start = format!("135,{workload},0.001,Rankfold,");
        numbers.lines().filter(|line| line.starts_with(&start)).filter_map(|line| line.split(',').next_back()).collect()
    };
    assert_eq!((seeds("Pareto"), seeds("uniform")), (vec!["1", "2", "3"], vec!["1"]), "{numbers}");
}

#[test]
fn a_workload_that_does_not_exist_is_refused_with_those_that_do() {
    let mut command = Command::new(program("scale_study"));
    command.args(["--quick", "--workloads", "ramp,fractal"]);
    run(command, HANGS).says(&["fractal", "ramp up, ramp down"]);
}

/// The elements that are not closed where they should be; panics at one that closes another than the last.
fn elements_left_open(svg: &str) -> Vec<&str> {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} does not end"));
        assert!(!text.contains('>') && tag.matches('"').count().is_multiple_of(2), "<{tag}>{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "in <{tag}>");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap_or_default());
        }
    }
    open
}
