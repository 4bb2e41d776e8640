public import EventStore

/// The tokens of joining proxies and of people: their hashes, and whether they still hold.
public struct TokenTable: Projection, Equatable {
    public static let name = "tokens"
    public static let version = 1

    public struct Token: Hashable, Sendable, Codable {
        public var creation: TokenCreation
        public var createdBy: String
        public var created: UnixTime
        public var used: UnixTime?
        /// Who joined with it.
        public var usedBy: InstanceKey?
        public var revoked: UnixTime?
    }

    public enum Refusal: String, Hashable, Sendable {
        case unknown = "no such token"
        case expired = "the token has expired"
        case revoked = "the token was revoked"
        case used = "the token was used before"
    }

    public var sequence = 0
    /// By id. Those that ended stay for 30 days, so that a refusal can say why.
    public private(set) var tokens: [String: Token] = [:]
    private var ids: [String: String] = [:]
    private var nextSweep = UnixTime(milliseconds: 0)

    public init() {}

    private static let keptMilliseconds: Int64 = 30 * 86_400_000
    private static let sweepMilliseconds: Int64 = 3_600_000

    /// The token with a hash, if it holds now. A token to join with holds once.
    public func check(hash: String, now: UnixTime) -> Result<Token, Problem> {
        guard let id = ids[hash], let token = tokens[id] else { return .failure(Problem(.unknown)) }
        if token.revoked != nil { return .failure(Problem(.revoked)) }
        if let expiry = token.creation.expiry, expiry <= now { return .failure(Problem(.expired)) }
        if token.creation.role == "join", token.used != nil { return .failure(Problem(.used)) }
        return .success(token)
    }

    public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
        public var refusal: Refusal

        init(_ refusal: Refusal) {
            self.refusal = refusal
        }

        public var description: String { refusal.rawValue }
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .tokenCreated(let creation):
            tokens[creation.id] = Token(
                creation: creation, createdBy: record.actor, created: record.time, used: nil, usedBy: nil, revoked: nil)
            ids[creation.hash] = creation.id
        case .tokenUsed(let change):
            tokens[change.id]?.used = record.time
            tokens[change.id]?.usedBy = change.instance
        case .tokenRevoked(let change): tokens[change.id]?.revoked = record.time
        default: return
        }
        sweep(record.time)
    }

    private mutating func sweep(_ now: UnixTime) {
        guard now >= nextSweep else { return }
        nextSweep = UnixTime(milliseconds: now.milliseconds + Self.sweepMilliseconds)
        let limit = UnixTime(milliseconds: now.milliseconds - Self.keptMilliseconds)
        tokens = tokens.filter { _, token in
            let ended = [token.creation.expiry, token.revoked, token.creation.role == "join" ? token.used : nil].compactMap(\.self).min()
            return ended.map { $0 > limit } ?? true
        }
        ids = ids.filter { tokens[$0.value] != nil }
    }
}
