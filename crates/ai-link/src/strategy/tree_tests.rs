use proptest::prelude::*;

use super::*;

fn echo() -> NestedTargetConfig {
    NestedTargetConfig {
        provider: Some("echo".to_owned()),
        ..NestedTargetConfig::default()
    }
}

fn mode(mode: Mode, codes: &[u16]) -> ModeConfig {
    ModeConfig {
        mode,
        on_status_codes: codes.to_vec(),
    }
}

fn strategy(kind: Mode, codes: &[u16], targets: Vec<NestedTargetConfig>) -> NestedTargetConfig {
    NestedTargetConfig {
        strategy: Some(mode(kind, codes)),
        targets,
        ..NestedTargetConfig::default()
    }
}

fn main(kind: Mode, codes: &[u16], targets: Vec<NestedTargetConfig>) -> TargetConfig {
    TargetConfig {
        id: "main".to_owned(),
        config: Some(StrategyConfig {
            strategy: mode(kind, codes),
            retry: RetryConfig::default(),
            targets,
        }),
        ..TargetConfig::default()
    }
}

fn tree(kind: Mode, codes: &[u16], targets: Vec<NestedTargetConfig>) -> Node {
    let config = main(kind, codes, targets);
    config.check().unwrap();
    Node::new(&config).unwrap()
}

/// The paths that are tried one after the other, the verdicts given; a leaf beyond them ends it.
fn way(root: &Node, any: bool, verdicts: &[Verdict]) -> Vec<String> {
    let (mut walk, mut leaf) = Walk::begin(root, any);
    let mut way = Vec::new();
    let mut verdicts = verdicts.iter();
    while let Some(found) = leaf {
        way.push(found.path.to_string());
        leaf = match verdicts.next() {
            Some(verdict) => walk.after(*verdict),
            None => None,
        };
    }
    way
}

fn status(code: u16) -> Verdict {
    Verdict::Answered(StatusCode::from_u16(code).unwrap())
}

#[test]
fn a_fallback_goes_on_until_one_answers() {
    let root = tree(Mode::Fallback, &[], vec![echo(), echo(), echo()]);
    for (verdicts, last) in [
        (&[status(200)][..], "main/0"),
        (&[status(400)], "main/0"),
        (&[status(401)], "main/0"),
        (&[status(429), status(200)], "main/1"),
        (&[status(500), status(200)], "main/1"),
        (&[Verdict::NoAnswer, status(200)], "main/1"),
        (&[Verdict::Unavailable, status(529)], "main/2"),
        (&[status(500), status(500), status(500)], "main/2"),
    ] {
        let way = way(&root, false, verdicts);
        assert_eq!(way.last().unwrap(), last, "{verdicts:?}");
    }
    let root = tree(Mode::Fallback, &[404], vec![echo(), echo()]);
    assert_eq!(way(&root, false, &[status(404)]), ["main/0", "main/1"]);
    assert_eq!(way(&root, false, &[status(500)]), ["main/0"]);
    assert_eq!(
        way(&root, false, &[Verdict::NoAnswer]),
        ["main/0", "main/1"]
    );
}

#[test]
fn single_stays_with_the_first() {
    let root = tree(Mode::Single, &[], vec![echo(), echo()]);
    for verdict in [status(500), Verdict::NoAnswer, Verdict::Unavailable] {
        assert_eq!(way(&root, false, &[verdict]), ["main/0"]);
    }
}

#[test]
fn a_balancer_passes_over_those_that_are_down_only() {
    let mut never = echo();
    never.weight = Some(0.0);
    let root = tree(Mode::Loadbalance, &[], vec![echo(), never, echo()]);
    let down = way(&root, false, &[Verdict::Unavailable; 4]);
    assert_eq!(down.len(), 2, "{down:?}");
    assert!(!down.contains(&"main/1".to_owned()));
    assert_eq!(way(&root, false, &[status(500)]).len(), 1);
    assert_eq!(way(&root, false, &[Verdict::NoAnswer]).len(), 1);
}

#[test]
fn a_failure_climbs_to_whoever_takes_it() {
    let root = tree(
        Mode::Fallback,
        &[],
        vec![
            strategy(Mode::Fallback, &[404], vec![echo(), echo()]),
            strategy(Mode::Single, &[], vec![echo(), echo()]),
            echo(),
        ],
    );
    assert_eq!(
        way(&root, false, &[Verdict::Unavailable; 9]),
        ["main/0/0", "main/0/1", "main/1/0", "main/2"]
    );
    assert_eq!(
        way(&root, false, &[status(404), status(404)]),
        ["main/0/0", "main/0/1"]
    );
    assert_eq!(
        way(&root, false, &[status(500), status(503), status(200)]),
        ["main/0/0", "main/1/0", "main/2"]
    );
}

#[test]
fn any_leaf_will_do_where_asked() {
    let mut never = echo();
    never.weight = Some(0.0);
    let root = tree(
        Mode::Loadbalance,
        &[],
        vec![never, strategy(Mode::Single, &[], vec![echo(), echo()])],
    );
    assert_eq!(
        way(&root, true, &[status(404), Verdict::NoAnswer, status(200)]),
        ["main/0", "main/1/0", "main/1/1"]
    );
}

#[test]
fn leaves_inherit_what_is_said_above_them() {
    let mut own = echo();
    own.request_timeout = Some(7);
    own.breaker = Some(BreakerConfig {
        failures: Some(0),
        ..BreakerConfig::default()
    });
    let retry = |attempts| RetryConfig {
        attempts: Some(attempts),
        ..RetryConfig::default()
    };
    let mut inner = strategy(Mode::Single, &[], vec![echo()]);
    inner.retry = Some(retry(2));
    let mut config = main(Mode::Single, &[], vec![own, echo(), inner]);
    config.request_timeout = Some(5);
    config.config.as_mut().unwrap().retry = retry(1);
    let mut leaves = Vec::new();
    Node::new(&config).unwrap().each_leaf(&mut |leaf| {
        let millis = leaf.timeout.map(|timeout| timeout.as_millis());
        let path = leaf.path.to_string();
        leaves.push((path, millis, leaf.retry.clone(), leaf.breaker));
    });
    let standard = BreakerPolicy::new(&BreakerConfig::default());
    assert_eq!(leaves[0].1, Some(7));
    assert_ne!(leaves[0].3, standard);
    let (once, twice) = (Retry::new(&retry(1)), Retry::new(&retry(2)));
    assert_eq!(leaves[1], ("main/1".to_owned(), Some(5), once, standard));
    assert_eq!(leaves[2], ("main/2/0".to_owned(), Some(5), twice, standard));
}

fn any_tree() -> impl Strategy<Value = NestedTargetConfig> {
    let weight = prop_oneof![Just(None), (0.0..10.0).prop_map(Some)];
    let leaf = weight.prop_map(|weight| NestedTargetConfig { weight, ..echo() });
    leaf.prop_recursive(3, 24, 4, |inner| {
        let kind = prop_oneof![
            Just(Mode::Single),
            Just(Mode::Fallback),
            Just(Mode::Loadbalance)
        ];
        (kind, prop::collection::vec(inner, 1..4))
            .prop_map(|(kind, targets)| strategy(kind, &[], targets))
    })
}

proptest! {
    #[test]
    fn no_leaf_is_tried_twice_and_every_walk_ends(
        inner in any_tree(),
        kind in prop_oneof![Just(Mode::Fallback), Just(Mode::Loadbalance)],
        any: bool,
        verdicts in prop::collection::vec(
            prop_oneof![Just(Verdict::Unavailable), Just(Verdict::NoAnswer), Just(status(500))],
            0..40,
        ),
    ) {
        let config = main(kind, &[], vec![inner, echo()]);
        prop_assume!(config.check().is_ok());
        let root = Node::new(&config).unwrap();
        let way = way(&root, any, &verdicts);
        let mut once = way.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), way.len());
        let mut leaves = 0;
        root.each_leaf(&mut |_| leaves += 1);
        prop_assert!(!way.is_empty() && way.len() <= leaves);
        if any && verdicts.len() >= leaves {
            prop_assert_eq!(way.len(), leaves);
        }
    }
}
