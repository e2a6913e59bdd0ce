use super::*;

#[test]
fn until_cuts_the_list() {
    use Expectation::*;
    let all = [PhasesDone, ContainerdReady, KubeletHealthy];
    let cases: [(Expectation, &[Expectation]); 3] =
        [(PhasesDone, &[PhasesDone]), (ContainerdReady, &[PhasesDone, ContainerdReady]), (SshAnswers, &[SshAnswers])];
    for (until, expected) in cases {
        assert_eq!(expect_until(&all, until), expected, "{until}");
    }
}
