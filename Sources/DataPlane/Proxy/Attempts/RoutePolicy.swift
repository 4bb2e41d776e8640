import Base
import HTTP
import ProxyConfig
import Resilience
import Routing

/// What a route's requests get beside their way, made ready once for all workers.
final class RoutePolicy: Sendable {
    struct Fault: Sendable {
        let configuration: FaultInjection
        let conditions: HeaderConditions
    }

    /// Nil = each request is tried once.
    let retry: RetryRules?
    /// Of `retry`, where each request looks at them.
    let mayRetry: Bool
    let perTryTimeout: Nanoseconds?
    let rateLimit: TokenBucket?
    let fault: Fault?
    let requestHeaders: CompiledHeaderChanges
    let responseHeaders: CompiledHeaderChanges
    let hedging: Hedging?
    /// A body may have to be sent twice.
    var keepsBodies: Bool { mayRetry || hedging != nil }
    private let hashKeys: [CompiledHashKey]

    init(_ route: Route) throws(RouteTableErrors) {
        rateLimit = route.rateLimit.map(TokenBucket.init)
        requestHeaders = CompiledHeaderChanges(route.requestHeaders)
        responseHeaders = CompiledHeaderChanges(route.responseHeaders)
        if let fault = route.fault {
            self.fault = Fault(configuration: fault, conditions: try HeaderConditions(fault.headers))
        } else {
            fault = nil
        }
        guard case .forward(let action) = route.action else {
            retry = nil
            mayRetry = false
            perTryTimeout = nil
            hedging = nil
            hashKeys = []
            return
        }
        retry = action.retryPolicy.flatMap { $0.maxRetries > 0 || $0.perTryTimeout != nil ? RetryRules($0) : nil }
        mayRetry = retry != nil
        perTryTimeout = retry?.perTryTimeout
        hedging = action.hedging
        hashKeys = action.hashKeys.map(CompiledHashKey.init)
    }

    /// What consistent balancing goes by; nil: the request has nothing of what the route names.
    ///
    /// - Parameter peer: the caller's address as text.
    func hash(_ head: Head, peer: [UInt8]) -> UInt64? {
        for key in hashKeys { if let hash = key.hash(head, peer: peer) { return hash } }
        return nil
    }
}

/// `HashKey` with its name as bytes.
private enum CompiledHashKey {
    case header([UInt8])
    case cookie([UInt8])
    case sourceAddress

    init(_ key: HashKey) {
        self =
            switch key {
            case .header(let name): .header(Array(name.lowercased().utf8))
            case .cookie(let name): .cookie(Array(name.utf8))
            case .sourceAddress: .sourceAddress
            }
    }

    func hash(_ head: Head, peer: [UInt8]) -> UInt64? {
        switch self {
        case .header(let name):
            guard let field = head.fields.first(where: { head.isNamed($0, name) }) else { return nil }
            return Self.hash(head.bytes, field.value)
        case .cookie(let name):
            for field in head.fields where head.isNamed(field, Self.cookieName) {
                if let value = Self.cookie(name, in: head.bytes, field.value) { return Self.hash(head.bytes, value) }
            }
            return nil
        // Without its port, which is another one for each connection.
        case .sourceAddress: return Self.hash(peer, peer.indices)
        }
    }

    private static let cookieName = Array("cookie".utf8)

    /// The value of one cookie of `a=1; b=2` (RFC 6265 section 4.2.1).
    private static func cookie(_ name: [UInt8], in bytes: [UInt8], _ range: Range<Int>) -> Range<Int>? {
        var start = range.lowerBound
        while start < range.upperBound {
            while start < range.upperBound, bytes[start] == UInt8(ascii: " ") { start += 1 }
            let end = bytes[start..<range.upperBound].firstIndex(of: UInt8(ascii: ";")) ?? range.upperBound
            let middle = start + name.count
            if middle < end, bytes[middle] == UInt8(ascii: "="), bytes[start..<middle].elementsEqual(name) { return middle + 1..<end }
            start = end + 1
        }
        return nil
    }

    /// FNV-1a, mixed: every process must agree.
    private static func hash(_ bytes: [UInt8], _ range: Range<Int>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for index in range { hash = (hash ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01b3 }
        hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
        return hash ^ hash >> 33
    }
}
