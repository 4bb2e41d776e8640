import Base
import Rollout
import Testing

@Suite struct RolloutTests {
    private static let fleet = (1...8).map { "n\($0)" }
    private func at(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    private func plan(_ stages: String..., pause: Int = 10) -> StagedPlan {
        StagedPlan(stages: stages.map { StagedPlan.Stage($0)! }, pause: .seconds(pause))
    }

    private func apply(_ machine: inout RolloutMachine, _ members: [String], at seconds: Int64) -> [RolloutMachine.Action] {
        members.flatMap { machine.applied($0, now: at(seconds)) }
    }

    @Test(
        "a stage is a count or a share, with or without a name",
        arguments: [
            ("3", 3), ("canary=1", 1), ("25%", 2), ("1%", 1), ("100%", 8), ("99", 8), ("12.6%", 2),
        ])
    func stages(text: String, size: Int) throws {
        #expect(try #require(StagedPlan.Stage(text)).size(of: 8) == size)
    }

    @Test("what is no stage is none", arguments: ["", "0", "-1", "0%", "101%", "x", "=", "1=", "5 %x"])
    func badStages(text: String) {
        #expect(StagedPlan.Stage(text) == nil)
    }

    @Test("stage by stage, each after all of it run the change and the pause is over, to the end")
    func completes() {
        var machine = RolloutMachine(plan("canary=1", "25%", "100%"), members: Self.fleet)
        #expect(machine.start(now: at(0)) == [.release(stage: 0, members: ["n1"])])
        #expect(machine.start(now: at(0)) == [])
        #expect(machine.tick(now: at(5)) == [])
        #expect(apply(&machine, ["n1"], at: 5) == [])
        #expect(machine.deadline == at(15))
        #expect(machine.tick(now: at(14)) == [])
        #expect(machine.tick(now: at(15)) == [.stageCompleted(0), .release(stage: 1, members: ["n2"])])
        #expect(apply(&machine, ["n2"], at: 16) == [])
        #expect(machine.tick(now: at(26)) == [.stageCompleted(1), .release(stage: 2, members: ["n3", "n4", "n5", "n6", "n7", "n8"])])
        #expect(apply(&machine, Array(Self.fleet[2...]), at: 27) == [])
        #expect(machine.tick(now: at(37)) == [.stageCompleted(2), .complete])
        #expect(machine.isOver && machine.deadline == .never)
        #expect(machine.stop(reason: "too late") == [])
        #expect(machine.refused("n1", reason: "x") == [])
    }

    @Test("the last stage is everybody, asked for or not")
    func lastStage() {
        #expect(plan("1").stages == [.count(1), .percent(100)])
        var machine = RolloutMachine(plan("1"), members: ["a", "b"])
        _ = machine.start(now: at(0))
        _ = machine.applied("a", now: at(0))
        #expect(machine.tick(now: at(10)) == [.stageCompleted(0), .release(stage: 1, members: ["b"])])
    }

    @Test("a refusal compensates, in whatever stage")
    func refused() {
        var machine = RolloutMachine(plan("1"), members: ["a", "b"])
        _ = machine.start(now: at(0))
        // It has not got the change: what it refuses is something else.
        #expect(machine.refused("b", reason: "x") == [])
        #expect(machine.refused("a", reason: "Cluster/x: bad") == [.compensate(reason: "a refused it: Cluster/x: bad")])
        #expect(machine.tick(now: at(100)) == [])
    }

    @Test("proxies that do not run it in time compensate; one that has gone is not waited for")
    func late() {
        var machine = RolloutMachine(plan("2"), members: ["a", "b", "c"])
        _ = machine.start(now: at(0))
        _ = machine.applied("a", now: at(1))
        #expect(machine.tick(now: at(60)) == [.compensate(reason: "not applied within 60 s by b")])

        var other = RolloutMachine(plan("2"), members: ["a", "b", "c"])
        _ = other.start(now: at(0))
        _ = other.applied("a", now: at(1))
        #expect(other.left("b", now: at(2)) == [])
        #expect(other.tick(now: at(12)) == [.stageCompleted(0), .release(stage: 1, members: ["c"])])
    }

    @Test(
        "failed requests of the stage's proxies compensate: more than the limit, and more than twice what was before",
        arguments: [
            (100, 4, 0.0, false), (100, 6, 0.0, true), (10, 10, 0.0, false), (100, 10, 6.0, false), (100, 13, 6.0, true),
        ])
    func errors(requests: UInt64, errors: UInt64, before: Double, fails: Bool) {
        var machine = RolloutMachine(plan("1"), members: ["a", "b"], baseline: RolloutBaseline(errorPercent: before))
        _ = machine.sampled("a", RolloutSample(requests: 1000, errors: 900))
        _ = machine.start(now: at(0))
        _ = machine.applied("a", now: at(1))
        let actions = machine.sampled("a", RolloutSample(requests: 1000 + requests, errors: 900 + errors))
        #expect(actions.isEmpty != fails)
        #expect(machine.isOver == fails)
        // Another's failures are not this stage's.
        if !fails { #expect(machine.sampled("b", RolloutSample(requests: 1000, errors: 1000)) == []) }
    }

    @Test("more ejections than before compensate; a proxy that began again counts from nothing")
    func ejections() {
        var machine = RolloutMachine(plan("1"), members: ["a", "b"], baseline: RolloutBaseline(ejections: 1))
        _ = machine.sampled("a", RolloutSample(ejections: 7))
        _ = machine.start(now: at(0))
        _ = machine.applied("a", now: at(1))
        #expect(machine.sampled("a", RolloutSample(ejections: 8)) == [])
        #expect(machine.sampled("a", RolloutSample(ejections: 1)) == [])
        #expect(machine.sampled("a", RolloutSample(ejections: 9)) == [.compensate(reason: "2 ejections, before it 1 in as long a time")])
    }

    @Test("stopping ends it at once, with the reason")
    func stops() {
        var machine = RolloutMachine(plan("1"), members: ["a", "b"])
        _ = machine.start(now: at(0))
        #expect(machine.stop(reason: "said so") == [.stop(reason: "said so")])
        #expect(machine.isOver)
    }

    @Test("after a restart of its owner it goes on with the stage that it had come to")
    func restored() {
        var machine = RolloutMachine(plan("1", "25%"), members: Self.fleet, stage: 1)
        #expect(machine.hasChange("n1") && !machine.hasChange("n2"))
        #expect(machine.start(now: at(0)) == [.release(stage: 1, members: ["n2"])])
        _ = machine.applied("n2", now: at(1))
        #expect(machine.tick(now: at(11)).first == .stageCompleted(1))
    }

    @Test("who joins meanwhile gets it in the last stage")
    func joins() {
        var machine = RolloutMachine(plan("1"), members: ["a"])
        _ = machine.start(now: at(0))
        machine.joined("z")
        #expect(!machine.hasChange("z"))
        _ = machine.applied("a", now: at(0))
        #expect(machine.tick(now: at(10)) == [.stageCompleted(0), .release(stage: 1, members: ["z"])])
    }

    @Test("a rollout without members is complete after its pauses")
    func empty() {
        var machine = RolloutMachine(plan("1", pause: 0), members: [])
        #expect(machine.start(now: at(0)).last == .complete)
    }
}
