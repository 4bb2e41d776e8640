import Base
import HTTP
import Resolver

/// Where a request wants to go by itself: the host and port of its authority (ORIGINAL_DST without interception).
struct Destination: Hashable, Sendable, CustomStringConvertible {
    enum Host: Hashable, Sendable {
        case ip(IPAddress)
        /// In lower case.
        case name(String)
    }

    var host: Host
    var port: Port

    /// `host`, `host:port`, `10.0.0.1:port`, `[v6]:port`; port 80 where none is given. Nil for anything else.
    init?(authority: String) {
        var host = authority[...]
        var port: Port = 80
        let endOfHost = authority.hasPrefix("[") ? authority.firstIndex(of: "]") ?? authority.startIndex : authority.startIndex
        if let colon = authority[endOfHost...].lastIndex(of: ":") {
            let digits = authority[authority.index(after: colon)...]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Port(digits), number > 0 else {
                return nil
            }
            port = number
            host = authority[..<colon]
        }
        self.port = port
        if host.hasPrefix("[") {
            guard host.hasSuffix("]"), let ip = IPAddress(host.dropFirst().dropLast()), !ip.isV4 else { return nil }
            self.host = .ip(ip.unmapped)
        } else if let ip = IPAddress(host) {
            guard ip.isV4 else { return nil }
            self.host = .ip(ip)
        } else {
            let name = host.lowercased()
            // A last label of digits is a mistyped address (10.0.0), which no name server needs to see.
            guard Resolver.isHostName(name), name.split(separator: ".").last?.allSatisfy(\.isNumber) == false else { return nil }
            self.host = .name(name)
        }
    }

    var description: String {
        switch host {
        case .ip(let ip): "\(SocketAddress(ip, port))"
        case .name(let name): "\(name):\(port)"
        }
    }
}

extension IPAddress {
    /// `::ffff:10.0.0.1` is 10.0.0.1.
    fileprivate var unmapped: IPAddress {
        if case .v6(0, let low) = self, low >> 32 == 0xffff { return .v4(UInt32(truncatingIfNeeded: low)) }
        return self
    }
}

/// Why a request cannot go where it wants.
enum DestinationError: Error, Hashable, Sendable {
    /// Its authority is no host with a port.
    case malformed
    case unresolved(ResolveError)
    /// It would come back to this proxy.
    case ownListener
    /// Too many other destinations are in use.
    case tooMany
    /// No answer within the connect timeout.
    case timeout

    var status: Int {
        switch self {
        case .malformed: 400
        case .ownListener: 508
        case .unresolved, .tooMany, .timeout: 503
        }
    }

    var flags: ResponseFlags {
        switch self {
        case .malformed, .ownListener: []
        case .unresolved, .timeout: [.noHealthyUpstream, .dnsResolutionFailure]
        case .tooMany: .upstreamOverflow
        }
    }

    var details: StaticString {
        switch self {
        case .malformed: "original_destination_malformed"
        case .unresolved: "dns_resolution_failure"
        case .ownListener: "original_destination_is_this_proxy"
        case .tooMany: "original_destination_overflow"
        case .timeout: "dns_resolution_timeout"
        }
    }

    /// For the caller.
    var text: String {
        switch self {
        case .malformed: "the authority of a request that leaves the mesh must be a host name or address, perhaps with a port"
        case .unresolved(let error): "no upstream: the name of the request's authority is not resolved: \(error)"
        case .ownListener: "refused: the request's authority is this proxy itself"
        case .tooMany: "no upstream: too many destinations outside of the mesh are in use"
        case .timeout: "no upstream: the name of the request's authority is not resolved in time"
        }
    }
}
