public import Base

/// One rollout under way: a saga that ends in exactly one of completed, compensated, or stopped.
///
/// Members are the proxies whose configuration the change concerns, by names of the owner's. One that goes away is not waited for; one
/// that comes while the rollout runs belongs to the last stage.
public struct RolloutMachine: Sendable {
    public enum Action: Hashable, Sendable {
        /// These get the change; the stage begins.
        case release(stage: Int, members: [String])
        case stageCompleted(Int)
        /// All members have it.
        case complete
        /// Those that have it go back, and the change is taken back.
        case compensate(reason: String)
        /// It ends as it stands, and is taken back, because somebody said so.
        case stop(reason: String)
    }

    private enum Phase: Hashable {
        case idle
        /// Until all of the stage run it.
        case applying(until: Instant)
        case watching(until: Instant)
        case over
    }

    public let plan: StagedPlan
    public let baseline: RolloutBaseline
    /// From 0; the one that is released or watched.
    public private(set) var stage: Int
    public private(set) var members: [String]
    /// How many of `members`, from the front, have the change.
    public private(set) var released = 0

    private var phase = Phase.idle
    private var applied: Set<String> = []
    private var gone: Set<String> = []
    private var latest: [String: RolloutSample] = [:]
    /// Of each member when it had applied the change.
    private var before: [String: RolloutSample] = [:]

    /// - Parameters:
    ///   - members: the order in which they are released.
    ///   - stage: the first that is to be released: 0, or what a rollout had come to before its owner was restarted.
    public init(_ plan: StagedPlan, members: [String], baseline: RolloutBaseline = RolloutBaseline(), stage: Int = 0) {
        self.plan = plan
        self.members = members
        self.baseline = baseline
        self.stage = stage
        if stage > 0 {
            released = plan.stages[stage - 1].size(of: members.count)
            applied = Set(members.prefix(released))
        }
    }

    public var isOver: Bool { phase == .over }
    /// When `tick` must be called at the latest.
    public var deadline: Instant {
        switch phase {
        case .applying(let until), .watching(let until): until
        case .idle, .over: .never
        }
    }

    public func hasChange(_ member: String) -> Bool { members.prefix(released).contains(member) }

    // MARK: Events

    public mutating func start(now: Instant) -> [Action] {
        guard phase == .idle else { return [] }
        return release(now)
    }

    /// A proxy runs the change.
    public mutating func applied(_ member: String, now: Instant) -> [Action] {
        guard case .applying = phase, hasChange(member) else { return [] }
        applied.insert(member)
        before[member] = latest[member] ?? RolloutSample()
        return advance(now)
    }

    /// A proxy will not run the change.
    public mutating func refused(_ member: String, reason: String) -> [Action] {
        guard phase != .over, phase != .idle, hasChange(member) else { return [] }
        return end(.compensate(reason: "\(member) refused it: \(reason)"))
    }

    public mutating func joined(_ member: String) {
        gone.remove(member)
        if !members.contains(member) { members.append(member) }
    }

    public mutating func left(_ member: String, now: Instant) -> [Action] {
        gone.insert(member)
        return advance(now)
    }

    public mutating func sampled(_ member: String, _ sample: RolloutSample) -> [Action] {
        latest[member] = sample
        guard case .watching = phase, let fault else { return [] }
        return end(.compensate(reason: fault))
    }

    public mutating func tick(now: Instant) -> [Action] {
        switch phase {
        case .applying(let until) where now >= until:
            let late = members.prefix(released).filter { !applied.contains($0) && !gone.contains($0) }
            return end(.compensate(reason: "not applied within \(plan.applyTime.components.seconds) s by \(list(late))"))
        case .watching(let until) where now >= until:
            var actions: [Action] = [.stageCompleted(stage)]
            guard stage + 1 < plan.stages.count else {
                // Those that came late have it with everybody else.
                phase = .over
                return actions + [.complete]
            }
            stage += 1
            actions += release(now)
            return actions
        default:
            return []
        }
    }

    public mutating func stop(reason: String) -> [Action] {
        guard phase != .over else { return [] }
        return end(.stop(reason: reason))
    }

    // MARK: Steps

    private mutating func release(_ now: Instant) -> [Action] {
        let size = stage + 1 < plan.stages.count ? max(released, plan.stages[stage].size(of: members.count)) : members.count
        let fresh = Array(members[released..<size])
        released = size
        phase = .applying(until: now + Nanoseconds(plan.applyTime))
        return [.release(stage: stage, members: fresh)] + advance(now)
    }

    private mutating func advance(_ now: Instant) -> [Action] {
        guard case .applying = phase else { return [] }
        guard members.prefix(released).allSatisfy({ applied.contains($0) || gone.contains($0) }) else { return [] }
        phase = .watching(until: now + Nanoseconds(plan.pause))
        return plan.pause == .zero ? tick(now: now) : []
    }

    private mutating func end(_ action: Action) -> [Action] {
        phase = .over
        return [action]
    }

    /// What the stage's proxies saw since they run the change, if that is bad.
    private var fault: String? {
        var sum = RolloutSample()
        for member in members.prefix(released) {
            guard let latest = latest[member], let before = before[member] else { continue }
            let since = latest.since(before)
            sum.requests += since.requests
            sum.errors += since.errors
            sum.ejections += since.ejections
        }
        let percent = sum.requests > 0 ? Double(sum.errors) * 100 / Double(sum.requests) : 0
        if sum.requests >= plan.minimumRequests, percent > max(plan.maxErrorPercent, 2 * baseline.errorPercent) {
            return "\(shown(percent)) of \(sum.requests) requests failed, before it \(shown(baseline.errorPercent))"
        }
        if sum.ejections > baseline.ejections {
            return "\(sum.ejections) ejections, before it \(baseline.ejections) in as long a time"
        }
        return nil
    }

    private func shown(_ percent: Double) -> String { "\((percent * 10).rounded() / 10)%" }

    private func list(_ members: [String]) -> String {
        members.prefix(3).joined(separator: ", ") + (members.count > 3 ? " and \(members.count - 3) more" : "")
    }
}
