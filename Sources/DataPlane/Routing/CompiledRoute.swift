public import Base
public import HTTP
public import ProxyConfig

/// One route as requests use it: all that can be computed beforehand is.
public final class CompiledRoute: Sendable {
    /// In `RouteTable.routes`: the key of counters.
    public let index: Int
    public let name: String
    /// In the route configuration.
    public let virtualHostIndex: Int
    public let virtualHostName: String
    public let configuration: Route
    /// Nil = none.
    public let timeout: Nanoseconds?
    /// Nil = none.
    public let idleTimeout: Nanoseconds?
    /// Nil = none. Limits the first try too.
    public let perTryTimeout: Nanoseconds?
    public let retryPolicy: RetryPolicy?
    /// The proxy puts the chosen endpoint's host name where the authority is (`replaceAuthority`).
    public let rewritesHostToEndpoint: Bool
    /// What is sent back, where this route does not forward.
    public let reply: CompiledReply?
    /// Who gets copies.
    public let mirrors: [CompiledMirror]
    let targets: WeightedTargets
    let pathRewrite: PathRewrite
    let hostRewrite: [UInt8]?

    enum PathRewrite: Sendable {
        case none
        /// Puts the bytes where the first `matched` bytes of the path are; nil = the whole path.
        case replace(matched: Int?, with: [UInt8])
    }

    init(
        index: Int, virtualHostIndex: Int, virtualHostName: String, configuration: Route, targets: WeightedTargets,
        mirrors: [CompiledMirror], pathRewrite: PathRewrite, hostRewrite: [UInt8]?
    ) {
        self.index = index
        self.name = configuration.name
        self.virtualHostIndex = virtualHostIndex
        self.virtualHostName = virtualHostName
        self.configuration = configuration
        self.targets = targets
        self.mirrors = mirrors
        self.pathRewrite = pathRewrite
        self.hostRewrite = hostRewrite
        switch configuration.action {
        case .forward(let forward):
            // Zero is the field's way to say "none".
            func limit(_ duration: Duration?) -> Nanoseconds? { duration.flatMap { $0 == .zero ? nil : Nanoseconds($0) } }
            timeout = limit(forward.timeout)
            idleTimeout = limit(forward.idleTimeout)
            perTryTimeout = limit(forward.retryPolicy?.perTryTimeout)
            retryPolicy = forward.retryPolicy
            rewritesHostToEndpoint = forward.hostRewrite == .endpointHostname
            reply = nil
        case .reply(let direct):
            timeout = nil
            idleTimeout = nil
            perTryTimeout = nil
            retryPolicy = nil
            rewritesHostToEndpoint = false
            reply = CompiledReply(status: direct.status, body: Array(direct.body.utf8))
        }
    }

    /// The cluster for one request, as its place in `RouteTable.clusterNames`. Only for routes that forward.
    @inline(__always)
    public func clusterOrdinal(random: UInt64) -> Int {
        targets.pick(random)
    }
}

/// A reply that needs no upstream, its body ready to be sent.
public final class CompiledReply: Sendable {
    public let status: Int
    public let body: [UInt8]

    init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

/// A cluster that gets a copy of some requests.
public struct CompiledMirror: Sendable {
    /// Its place in `RouteTable.clusterNames`.
    public let ordinal: Int
    public let share: Share
}

/// Clusters and how often each is chosen.
struct WeightedTargets: Sendable {
    /// The running sum of weights, and the cluster up to there.
    private var bounds: [(sum: UInt64, ordinal: Int)] = []

    mutating func append(ordinal: Int, weight: UInt64) {
        bounds.append((total + weight, ordinal))
    }

    var total: UInt64 { bounds.last?.sum ?? 0 }

    /// Multiply-shift: of every `total` equal parts of the range of `random`, a cluster gets as many as its weight.
    func pick(_ random: UInt64) -> Int {
        if bounds.count == 1 { return bounds[0].ordinal }
        let point = random.multipliedFullWidth(by: total).high
        var index = 0
        while bounds[index].sum <= point { index += 1 }
        return bounds[index].ordinal
    }
}

// MARK: Rewriting

extension CompiledRoute {
    /// Turns the request head into what goes upstream, after `RouteTable.match` chose this route for it.
    ///
    /// The matched prefix is replaced by exactly the configured bytes, as in Envoy: `/a` → `/` makes `/a/b` into `//b`. The query
    /// stays. The path as it was is kept in x-envoy-original-path, in place of any that came. A host name goes into the authority and
    /// the Host field; `rewritesHostToEndpoint` is left to the proxy, which knows the endpoint.
    ///
    /// - Throws: `.rewriteMakesDotSegment`; then the head is unchanged.
    public func rewrite(_ head: Head) throws(PathError) {
        if case .replace(let matched, let bytes) = pathRewrite { try replacePath(head, matched: matched, with: bytes) }
        if let hostRewrite { Self.replaceAuthority(head, with: hostRewrite) }
    }

    private func replacePath(_ head: Head, matched: Int?, with bytes: [UInt8]) throws(PathError) {
        let original = head.target
        // `*` of OPTIONS and the authority of CONNECT are no paths.
        guard !original.isEmpty, head.bytes[original.lowerBound] == UInt8(ascii: "/") else { return }
        let rest = (matched.map { original.lowerBound + $0 } ?? head.path.upperBound)..<original.upperBound
        let start = head.bytes.count
        head.bytes.append(contentsOf: bytes)
        head.appendCopy(of: rest)
        let end = head.bytes.count
        // Only the segment at the seam can have become `.` or `..`.
        if head.hasDotSegment(at: start + bytes.count, in: start..<end) {
            head.bytes.removeLast(end - start)
            throw .rewriteMakesDotSegment
        }
        if head.holdsSame(original, start..<end) {
            head.bytes.removeLast(end - start)
            return
        }
        head.target = start..<end
        head.removeFields(.envoyOriginalPath)
        let name = end
        head.appendName(.envoyOriginalPath)
        let value = head.bytes.count
        head.appendCopy(of: original)
        head.fields.append(Head.Field(name: name..<value, value: value..<head.bytes.count, known: .envoyOriginalPath))
    }

    /// Makes `host` (with its port, if any) the authority, in `head.authority` and in the Host field where there is one.
    public static func replaceAuthority(_ head: Head, with host: [UInt8]) {
        let field = head.fields.firstIndex { $0.known == .host }
        // Name and value stay side by side, as in every field.
        let name = head.bytes.count
        if let field { head.appendCopy(of: head.fields[field].name) }
        let value = head.bytes.count
        head.bytes.append(contentsOf: host)
        head.authority = value..<head.bytes.count
        if let field { head.fields[field] = Head.Field(name: name..<value, value: head.authority, known: .host) }
    }
}

extension Head {
    /// Byte by byte: a slice of `bytes` given to `append` would make it copy itself whole.
    fileprivate func appendCopy(of range: Range<Int>) {
        for index in range { bytes.append(bytes[index]) }
    }

    fileprivate func appendName(_ known: KnownField) {
        let name = known.name
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
    }

    fileprivate func removeFields(_ known: KnownField) {
        var kept = 0
        for index in fields.indices where fields[index].known != known {
            fields[kept] = fields[index]
            kept += 1
        }
        fields.removeLast(fields.count - kept)
    }

    fileprivate func holdsSame(_ left: Range<Int>, _ right: Range<Int>) -> Bool {
        guard left.count == right.count else { return false }
        for offset in 0..<left.count where bytes[left.lowerBound + offset] != bytes[right.lowerBound + offset] { return false }
        return true
    }

    /// Whether the path segment around `position` is `.` or `..`, with or without parameters.
    fileprivate func hasDotSegment(at position: Int, in target: Range<Int>) -> Bool {
        var start = position
        while start > target.lowerBound, bytes[start - 1] != UInt8(ascii: "/") { start -= 1 }
        var dots = 0
        while start + dots < target.upperBound, bytes[start + dots] == UInt8(ascii: ".") { dots += 1 }
        guard dots == 1 || dots == 2 else { return false }
        guard start + dots < target.upperBound else { return true }
        switch bytes[start + dots] {
        case UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: ";"): return true
        default: return false
        }
    }
}
