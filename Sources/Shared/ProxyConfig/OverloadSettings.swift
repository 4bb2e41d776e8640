/// Where a proxy process begins to protect itself.
public struct OverloadSettings: Hashable, Sendable {
    /// Memory that the process may use; nil = what its cgroup allows.
    public var maxMemoryBytes: Int?
    /// Bytes a second: a body that moves slower counts as one that does not move, and ends with the route's idle timeout. 0 = any counts.
    public var minBodyRate: Int
    /// The process ends when a worker has been stuck for so long, for its supervisor to start it again; zero = never.
    public var stuckTime: Duration

    public init(maxMemoryBytes: Int? = nil, minBodyRate: Int = Self.defaultMinBodyRate, stuckTime: Duration = Self.defaultStuckTime) {
        self.maxMemoryBytes = maxMemoryBytes
        self.minBodyRate = minBodyRate
        self.stuckTime = stuckTime
    }

    /// Apache's mod_reqtimeout asks for as many: the slowest of modems had ten times that.
    public static let defaultMinBodyRate = 500
    public static let defaultStuckTime = Duration.seconds(10)
}
