import Base
import Glibc

/// Where the control plane is: `host:port`, `http://host:port` or `https://host:port`.
struct ControlAddress: CustomStringConvertible {
    static let usual = "127.0.0.1:15010"
    static let usualPort: Port = 15010

    /// Without brackets.
    let host: String
    let port: Port
    let usesTLS: Bool

    /// - Parameter hasAuthority: An authority to trust is named, so TLS is meant unless the address says otherwise.
    init(_ text: String, hasAuthority: Bool) throws {
        var rest = text[...]
        var scheme: Substring?
        if let end = rest.firstRange(of: "://") {
            scheme = rest[..<end.lowerBound]
            rest = rest[end.upperBound...]
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        func fail() -> Failure {
            Failure(
                message: "the control plane's address: expected host:port, http://host:port or https://host:port, found \"\(text)\"",
                status: Failure.usage)
        }
        guard scheme == nil || scheme == "http" || scheme == "https", !rest.isEmpty, !rest.contains("/"), !rest.contains("@") else {
            throw fail()
        }
        var host = rest
        var port = Self.usualPort
        if rest.hasPrefix("[") {
            guard let end = rest.firstIndex(of: "]") else { throw fail() }
            host = rest[rest.index(after: rest.startIndex)..<end]
            let tail = rest[rest.index(after: end)...]
            if !tail.isEmpty {
                guard tail.hasPrefix(":"), let number = Port(tail.dropFirst()), number > 0 else { throw fail() }
                port = number
            }
        } else if let colon = rest.lastIndex(of: ":"), IPAddress(rest) == nil {
            guard let number = Port(rest[rest.index(after: colon)...]), number > 0 else { throw fail() }
            host = rest[..<colon]
            port = number
        }
        guard !host.isEmpty, !host.contains(":") || IPAddress(host) != nil else { throw fail() }
        self.host = String(host)
        self.port = port
        let isLoopback = Self.isLoopback(self.host)
        usesTLS = scheme == "https" || scheme == nil && (hasAuthority || !isLoopback)
    }

    var isIP: Bool { IPAddress(host) != nil }
    var isLoopback: Bool { Self.isLoopback(host) }
    var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    var description: String { authority }

    private static func isLoopback(_ host: String) -> Bool {
        IPAddress(host)?.isLoopback ?? (host == "localhost" || host.hasSuffix(".localhost"))
    }

    /// The first address of the name.
    func resolve() throws -> SocketAddress {
        if let ip = IPAddress(host) { return SocketAddress(ip, port) }
        // RFC 6761 section 6.3.
        if isLoopback { return SocketAddress(.loopbackV4, port) }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_ADDRCONFIG
        var found: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, nil, &hints, &found)
        guard status == 0, let first = unsafe found else {
            throw Failure(message: "the control plane's host \(host) is not known: \(unsafe String(cString: gai_strerror(status)))")
        }
        defer { unsafe freeaddrinfo(first) }
        var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let length = socklen_t(name.count)
        let shown = unsafe getnameinfo(first.pointee.ai_addr, first.pointee.ai_addrlen, &name, length, nil, 0, NI_NUMERICHOST)
        let text = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard shown == 0, let ip = IPAddress(text) else { throw Failure(message: "the address of \(host) cannot be read: \(text)") }
        return SocketAddress(ip, port)
    }
}
