/// How full a process is, and so what it gives up, in this order.
public enum OverloadLevel: UInt8, CaseIterable, Comparable, Sendable {
    case normal
    /// Idle connections close, the oldest first; with none left, nobody new is let in.
    case trim
    /// Connections end with the response that they carry.
    case endKeepAlive
    /// New requests are refused.
    case refuse
    /// The streams that hold the most bytes are reset.
    case reset

    /// Of what there is, from which on the level holds. 95 and 98 are where Envoy's edge guide puts them; 80 is early, because
    /// closing what is idle costs nobody much.
    public var percent: Int {
        switch self {
        case .normal: 0
        case .trim: 80
        case .endKeepAlive: 90
        case .refuse: 95
        case .reset: 98
        }
    }

    /// So many points below its beginning a level ends: what it gives up must not come back at once.
    static let hysteresis = 3

    public static func < (left: OverloadLevel, right: OverloadLevel) -> Bool { left.rawValue < right.rawValue }
}

/// One resource of a process, and the level that its use means. Decides only; who measures it tells.
public struct OverloadGauge: Hashable, Sendable {
    public private(set) var level = OverloadLevel.normal
    public private(set) var used = 0
    /// Nil = there is as much as wanted: the level stays `.normal`.
    public private(set) var limit: Int?

    public init() {}

    /// Parts of a hundred, rounded down; 0 without a limit.
    public var percent: Int { Self.percent(used, limit) }

    private static func percent(_ used: Int, _ limit: Int?) -> Int {
        guard let limit, used > 0 else { return 0 }
        guard limit > 0 else { return 100 }
        let (product, overflow) = used.multipliedReportingOverflow(by: 100)
        return overflow ? used / max(limit / 100, 1) : product / limit
    }

    /// Takes in what is used now. A level begins at once; it ends `hysteresis` points below.
    ///
    /// - Returns: whether the level is another.
    @discardableResult
    public mutating func read(used: Int, limit: Int?) -> Bool {
        self.used = used
        self.limit = limit
        let percent = percent
        let reached = OverloadLevel.allCases.last { percent >= $0.percent } ?? .normal
        let held = OverloadLevel.allCases.last { $0 <= level && percent >= $0.percent - OverloadLevel.hysteresis } ?? .normal
        let next = limit == nil ? .normal : max(reached, held)
        defer { level = next }
        return next != level
    }

    /// How much of the resource a level begins with.
    public func line(of level: OverloadLevel) -> Int {
        limit.map { $0 / 100 * level.percent + $0 % 100 * level.percent / 100 } ?? .max
    }

    /// What must go for `level` to end.
    public func excess(over level: OverloadLevel) -> Int {
        limit == nil ? 0 : max(0, used - line(of: level))
    }
}

/// What of a process's descriptors is for traffic.
public enum DescriptorReserve {
    /// Listeners, logs, DNS, the control plane and 64 connections of the admin interface need less.
    private static let most = 128

    /// - Parameter limit: RLIMIT_NOFILE; where that is small, an eighth is kept back.
    public static func capacity(limit: Int) -> Int {
        limit - min(most, limit / 8)
    }
}
