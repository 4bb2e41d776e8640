import Base
import EventStore
import MeshModel
import Projections
import Reactor
import Rollout
import XDSWire

/// Runs a staged rollout: keeps the log and the proxies in step with the `RolloutMachine`.
///
/// The newest revision is what is wanted from the start; proxies that a stage has not reached get the edition before. Each step is
/// recorded before it is done, so a control plane that begins again goes on with the stage that it had begun.
final class RolloutDriver {
    private struct Run {
        var revision: Int
        var from: Int
        var machine: RolloutMachine
        var keys: [String: InstanceKey] = [:]
        var hasStarted = false
        /// Its end is recorded.
        var hasEnded = false
    }

    private let controller: Controller
    private var run: Run?
    /// Recorded together with the change, and not yet on disk.
    private var coming: (plan: StagedPlan, revision: Int, from: Int)?
    private let timer: LoopTimer
    /// The end of a rollout that the log did not take.
    private var unrecorded: (events: [MeshEvent], reason: String)?
    private static let recordingPause = Nanoseconds.seconds(5)

    init(_ controller: Controller) {
        self.controller = controller
        var tick: () -> Void = {}
        timer = LoopTimer { _ in tick() }
        tick = { [unowned self] in
            guard let end = unrecorded else { return step { $0.tick(now: $1) } }
            unrecorded = nil
            finish(end.events, reason: end.reason)
        }
    }

    /// The revision that is being rolled out.
    var running: Int? { run.flatMap { $0.hasEnded ? nil : $0.revision } ?? coming?.revision }

    /// How many proxies have it, of how many.
    var progress: (stage: Int, reached: Int, of: Int)? {
        run.map { ($0.machine.stage, $0.machine.released, $0.machine.members.count) }
    }

    func edition(of key: InstanceKey) -> Publisher.Edition {
        guard let run else { return coming == nil ? .current : .previous }
        return run.machine.hasChange("\(key)") ? .current : .previous
    }

    // MARK: Beginning

    /// The event to record with the change.
    func begin(_ plan: StagedPlan, revision: Int, from: Int) -> MeshEvent {
        run = nil
        ejections = [:]
        coming = (plan, revision, from)
        // Until it is recorded everybody keeps what he has.
        controller.publisher.setMesh(controller.mesh, .previous)
        return .rolloutStarted(
            RolloutStart(
                revision: revision, previous: from, stages: plan.stages.map(\.description),
                pauseMilliseconds: Int(Nanoseconds(plan.pause).count / 1_000_000)))
    }

    /// The change could not be recorded.
    func notBegun() {
        guard coming != nil else { return }
        coming = nil
        controller.ads.meshChanged()
        controller.publisher.dropPrevious()
    }

    func begun() {
        guard let coming else { return }
        self.coming = nil
        let members = controller.fleet.sorted.filter { $0.isConnected && $0.report != nil }.map(\.key)
        let baseline = self.baseline(coming.plan)
        begin(RolloutMachine(coming.plan, members: members.map { "\($0)" }, baseline: baseline), members, coming.revision, coming.from)
    }

    private func begin(_ machine: RolloutMachine, _ members: [InstanceKey], _ revision: Int, _ from: Int) {
        var run = Run(revision: revision, from: from, machine: machine)
        for key in members {
            run.keys["\(key)"] = key
            // What was before the change does not count against it.
            if let report = controller.fleet[key]?.report { _ = run.machine.sampled("\(key)", sample(key, report)) }
        }
        self.run = run
        controller.ads.meshChanged()
        Log.info("rollout", "revision \(revision) begins, over \(members.count) proxies in \(machine.plan.stages.count) stages")
        self.run?.hasStarted = true
        step { $0.start(now: $1) }
    }

    /// After a restart: the stage that had begun is begun again.
    func resume() {
        guard let rollout = controller.journal.models.rollouts.running.last else { return }
        let start = rollout.start
        let stages = start.stages.compactMap { StagedPlan.Stage($0) }
        let plan = StagedPlan(stages: stages, pause: .milliseconds(start.pauseMilliseconds))
        coming = (plan, start.revision, start.previous)
        let history = controller.journal.models.history
        controller.journal.read { log in
            var state = try PastStates(log: log, history: history).state(atRevision: start.previous)
            state.settle()
            return state.mesh
        } then: { [weak self] result in
            guard let self else { return }
            coming = nil
            switch result {
            case .failure(let error):
                finish(.rolloutStopped(RolloutEnd(revision: start.revision, reason: "the state before it cannot be read: \(error)")))
            case .success(let mesh):
                controller.publisher.setMesh(mesh, .previous)
                let completed = rollout.stages.prefix { $0.completed != nil }.count
                guard completed < plan.stages.count else { return finish(.rolloutCompleted(RolloutEnd(revision: start.revision))) }
                // Those of the stages that are done, in their order, then the others that are known.
                var members = rollout.stages.prefix(completed).flatMap(\.instances)
                let others = controller.journal.models.nodes.instances.values.filter { $0.state != .left }.map(\.key).sorted()
                members += others.filter { !members.contains($0) }
                let machine = RolloutMachine(plan, members: members.map { "\($0)" }, stage: completed)
                Log.info("rollout", "revision \(start.revision) goes on with stage \(completed + 1) of \(plan.stages.count)")
                begin(machine, members, start.revision, start.previous)
            }
        }
    }

    private func baseline(_ plan: StagedPlan) -> RolloutBaseline {
        let recent = controller.traffic.recent(Int(plan.pause.components.seconds), now: controller.loop.now)
        let requests = recent.services.values.reduce(0) { $0 + $1.requests }
        let errors = recent.services.values.reduce(0) { $0 + $1.errors }
        return RolloutBaseline(
            errorPercent: requests > 0 ? Double(errors) * 100 / Double(requests) : 0, ejections: recent.ejections)
    }

    // MARK: What proxies say

    func applied(_ key: InstanceKey, _ target: Publisher.Target) {
        guard let run, target.edition == .current, controller.publisher.isSettled else { return }
        if run.keys["\(key)"] == nil { return joined(key) }
        step { $0.applied("\(key)", now: $1) }
    }

    func refused(_ key: InstanceKey, _ reason: String) {
        step { machine, _ in machine.refused("\(key)", reason: reason) }
    }

    func reported(_ key: InstanceKey, _ report: NodeReport) {
        guard run != nil else { return }
        let sample = sample(key, report)
        if run?.keys["\(key)"] == nil { joined(key) }
        step { machine, _ in machine.sampled("\(key)", sample) }
    }

    private func sample(_ key: InstanceKey, _ report: NodeReport) -> RolloutSample {
        var sample = RolloutSample()
        for cluster in report.clusters where controller.service(ofCluster: cluster.name) != nil {
            sample.requests += cluster.requests
            sample.errors += cluster.serverErrors + cluster.grpcErrors
        }
        ejections[key, default: 0] += UInt64(report.outlierEvents.count { $0.action == "EJECT" })
        sample.ejections = ejections[key] ?? 0
        return sample
    }

    private var ejections: [InstanceKey: UInt64] = [:]

    private func joined(_ key: InstanceKey) {
        run?.keys["\(key)"] = key
        run?.machine.joined("\(key)")
    }

    func left(_ key: InstanceKey) {
        guard run?.keys["\(key)"] != nil else { return }
        step { $0.left("\(key)", now: $1) }
    }

    func stop(_ reason: String) {
        step { machine, _ in machine.stop(reason: reason) }
    }

    // MARK: Steps

    private func step(_ body: (inout RolloutMachine, Instant) -> [RolloutMachine.Action]) {
        guard run?.hasStarted == true else { return }
        let actions = body(&run!.machine, controller.loop.now)
        controller.loop.setDeadline(timer, run!.machine.deadline)
        for action in actions { perform(action) }
    }

    private func perform(_ action: RolloutMachine.Action) {
        guard let run else { return }
        switch action {
        case .release(let stage, let members):
            let keys = members.compactMap { run.keys[$0] }
            Log.info("rollout", "revision \(run.revision): stage \(stage + 1) of \(run.machine.plan.stages.count), \(keys.count) proxies")
            controller.journal.record(
                [.rolloutStageStarted(RolloutStage(revision: run.revision, stage: stage, instances: keys))], actor: "system")
            controller.ads.reassign(keys)
            // One whose configuration the change does not touch runs it already.
            for key in keys { if let report = controller.fleet[key]?.report { controller.confirm(key, report) } }
        case .stageCompleted(let stage):
            controller.journal.record([.rolloutStageCompleted(RolloutStage(revision: run.revision, stage: stage))], actor: "system")
        case .complete:
            Log.info("rollout", "revision \(run.revision) is complete")
            finish(.rolloutCompleted(RolloutEnd(revision: run.revision)))
        case .compensate(let reason):
            Log.warning("rollout", "revision \(run.revision) is taken back: \(reason)")
            takeBack(run, .rolloutCompensated(RolloutEnd(revision: run.revision, reason: reason)), reason)
        case .stop(let reason):
            Log.warning("rollout", "revision \(run.revision) is stopped: \(reason)")
            takeBack(run, .rolloutStopped(RolloutEnd(revision: run.revision, reason: reason)), reason)
        }
    }

    /// The change is undone by compensating events; they and the end of the rollout are recorded together.
    private func takeBack(_ run: Run, _ end: MeshEvent, _ reason: String) {
        let models = controller.journal.models
        let history = models.history
        let desired = models.desired
        controller.journal.read { log in
            let past = try PastStates(log: log, history: history).state(atRevision: run.from)
            return try Projections.Command.plan(rollbackTo: past, from: desired).get().events
        } then: { [weak self] result in
            switch result {
            case .success(let events): self?.finish(events + [end], reason: "rollout of revision \(run.revision) taken back: \(reason)")
            case .failure(let error):
                Log.error("rollout", "revision \(run.revision) cannot be taken back: \(error)")
                self?.finish([
                    .rolloutStopped(RolloutEnd(revision: run.revision, reason: "\(reason); it could not be taken back: \(error)"))
                ])
            }
        }
    }

    private func finish(_ end: MeshEvent) {
        finish([end])
    }

    private func finish(_ events: [MeshEvent], reason: String = "") {
        controller.journal.record(events, actor: "system", reason: reason) { [weak self] result in
            guard let self else { return }
            if case .failure(let error) = result {
                // In the log it runs on, and so it does here: a disk that is full may have room again.
                Log.error("rollout", "its end could not be recorded, trying again: \(error)")
                unrecorded = (events, reason)
                return controller.loop.setDeadline(timer, controller.loop.now + Self.recordingPause)
            }
            controller.loop.cancelDeadline(timer)
            run?.hasEnded = true
            // Whoever has not had a change that is taken back moves when the state after it is compiled: until then it is the change's.
            let revision = run?.revision
            controller.publisher.whenSettled { [weak self] in
                guard let self, run?.revision == revision else { return }
                run = nil
                ejections = [:]
                controller.ads.meshChanged()
                controller.publisher.dropPrevious()
            }
        }
    }
}
