public import EventStore

/// The rollouts, and how far each is: what a restarted control plane goes on with.
public struct RolloutLog: Projection, Equatable {
    public static let name = "rollouts"
    public static let version = 1

    /// The oldest that has ended is forgotten first.
    public static let maxRollouts = 1000

    public enum State: String, Hashable, Sendable, Codable {
        case running
        case completed
        case compensated
        case stopped
    }

    public struct Stage: Hashable, Sendable, Codable {
        /// As asked for: `25%`.
        public var name: String
        public var instances: [InstanceKey]
        public var started: UnixTime?
        public var completed: UnixTime?
    }

    public struct Rollout: Hashable, Sendable, Codable {
        public var start: RolloutStart
        public var state: State
        /// Why it was compensated or stopped.
        public var reason: String
        public var stages: [Stage]
        public var started: UnixTime
        public var ended: UnixTime?
    }

    public var sequence = 0
    /// Oldest first.
    public private(set) var rollouts: [Rollout] = []

    public init() {}

    public var running: [Rollout] { rollouts.filter { $0.state == .running } }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .rolloutStarted(let start):
            let stages = start.stages.map { Stage(name: $0, instances: [], started: nil, completed: nil) }
            rollouts.append(Rollout(start: start, state: .running, reason: "", stages: stages, started: record.time, ended: nil))
            if rollouts.count > Self.maxRollouts, let oldest = rollouts.firstIndex(where: { $0.state != .running }) {
                rollouts.remove(at: oldest)
            }
        case .rolloutStageStarted(let stage):
            update(stage) {
                $0.instances = stage.instances
                $0.started = record.time
            }
        case .rolloutStageCompleted(let stage): update(stage) { $0.completed = record.time }
        case .rolloutCompleted(let end): finish(end, .completed, record)
        case .rolloutCompensated(let end): finish(end, .compensated, record)
        case .rolloutStopped(let end): finish(end, .stopped, record)
        default: break
        }
    }

    /// The running rollout of a revision: one revision may be rolled out again later.
    private func index(of revision: Int) -> Int? {
        rollouts.lastIndex { $0.start.revision == revision && $0.state == .running }
    }

    private mutating func update(_ stage: RolloutStage, _ body: (inout Stage) -> Void) {
        guard let index = index(of: stage.revision), rollouts[index].stages.indices.contains(stage.stage) else { return }
        body(&rollouts[index].stages[stage.stage])
    }

    private mutating func finish(_ end: RolloutEnd, _ state: State, _ record: StoredEvent) {
        guard let index = index(of: end.revision) else { return }
        rollouts[index].state = state
        rollouts[index].reason = end.reason
        rollouts[index].ended = record.time
    }
}
