import Base
import Glibc
import ProxyConfig
import Reactor
import XDSWire

/// What the command line says of the control plane, for a proxy that gets its configuration from one.
struct ControlPlaneOptions {
    /// A name or an address.
    var host: String
    var port: Port
    /// Who we say we are.
    var node: ClientNode
    /// Where the last good snapshot is kept; nil = nowhere.
    var statePath: String?
    /// Files of PEM; nil = plaintext.
    var tls: TLS?
    /// Plaintext beyond the loopback was asked for.
    var allowsPlaintext = false
    /// To get the first certificate with, from a control plane that has an authority.
    var joinToken: String?

    /// Where the certificate of its own and the key are kept, in one file; nil = nowhere.
    var identityPath: String? {
        statePath.map { ($0.hasSuffix(".snapshot") ? String($0.dropLast(".snapshot".count)) : $0) + ".identity.pem" }
    }

    struct TLS {
        var authorities: String
        /// Nil = we show none.
        var certificate: (chain: String, privateKey: String)?
        /// What must stand in the control plane's certificate.
        var name: String
    }

    /// As it was typed: `HOST:PORT`.
    var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Who snapshots are made for, until the control plane says it better: it knows the mesh where we were not told.
    var identity: Node {
        if let node = node.node { return node }
        var identity = Node(mesh: "-", role: node.role ?? .virtualNode, name: node.name)
        identity.id = node.id
        identity.cluster = node.cluster
        return identity
    }

    /// The words of the command line, as they were found.
    struct Words {
        var controlPlane: String?
        var node: String?
        var gateway: String?
        var mesh = ""
        var namespace = ""
        var instance: String?
        var address: String?
        var hostAddress: String?
        var state: String?
        var authorities: String?
        var certificate: String?
        var key: String?
        var name: String?
        var allowsPlaintext = false
        var joinToken: String?
    }

    /// - Throws: a sentence for the person who typed it.
    init(_ words: Words) throws(UsageError) {
        guard let (host, port) = Self.hostAndPort(words.controlPlane ?? "") else {
            throw UsageError(text: "--control-plane: expected HOST:PORT, found \"\(words.controlPlane ?? "")\"")
        }
        self.host = host
        self.port = port
        guard (words.node == nil) != (words.gateway == nil) else {
            throw UsageError(text: "--control-plane needs one of --node NAME and --gateway NAME")
        }
        var name = words.node ?? words.gateway ?? ""
        var namespace = words.namespace
        if let slash = name.firstIndex(of: "/") {
            let before = String(name[..<slash])
            guard namespace.isEmpty || namespace == before else {
                throw UsageError(text: "--namespace says \"\(namespace)\", and the node's name says \"\(before)\"")
            }
            namespace = before
            name = String(name[name.index(after: slash)...])
        }
        guard !name.isEmpty, !name.contains("/") else {
            throw UsageError(text: "--node: expected NAME or NAMESPACE/NAME, found \"\(words.node ?? words.gateway ?? "")\"")
        }
        let role = words.gateway == nil ? Node.Role.virtualNode : .virtualGateway
        let instance = words.instance ?? Self.hostName()
        let address = try Self.address(words.address, "--address")
        let hostAddress = try Self.address(words.hostAddress, "--host-address")
        if words.mesh.isEmpty {
            node = ClientNode(
                name: name, namespace: namespace, instance: instance, address: address, host: hostAddress,
                userAgentVersion: ProxyProgram.version)
            node.role = role
        } else {
            node = ClientNode(
                Node(mesh: words.mesh, role: role, name: name), namespace: namespace, instance: instance, address: address,
                host: hostAddress, userAgentVersion: ProxyProgram.version)
        }
        allowsPlaintext = words.allowsPlaintext
        statePath = words.state.map { Self.stateFile($0, node) }
        joinToken = words.joinToken
        if joinToken != nil {
            guard statePath != nil else { throw UsageError(text: "--join-token needs --state: the certificate must outlive the process") }
            guard words.certificate == nil else {
                throw UsageError(text: "--join-token and --client-certificate: expected one of them, found both")
            }
        }
        guard (words.certificate == nil) == (words.key == nil) else {
            throw UsageError(text: "--client-certificate and --client-key belong together")
        }
        if let authorities = words.authorities {
            let certificate = words.certificate.flatMap { chain in words.key.map { (chain: chain, privateKey: $0) } }
            tls = TLS(authorities: authorities, certificate: certificate, name: words.name ?? host)
        } else if words.certificate != nil || words.name != nil {
            throw UsageError(text: "--client-certificate and --control-plane-name need --control-plane-ca: without it nothing is encrypted")
        } else if let ip = IPAddress(host), !ip.isLoopback, !allowsPlaintext {
            throw UsageError(text: Self.plaintextRefused(host))
        }
    }

    static func plaintextRefused(_ place: String) -> String {
        "the control plane at \(place) is not on this machine: expected --control-plane-ca FILE (TLS), or --insecure-control-plane"
    }

    private static func hostAndPort(_ text: String) -> (String, Port)? {
        if let address = SocketAddress(text), address.port > 0 { return ("\(address.ip)", address.port) }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, let port = Port(parts[1]), port > 0 else { return nil }
        return (String(parts[0]), port)
    }

    private static func address(_ text: String?, _ option: String) throws(UsageError) -> IPAddress? {
        guard let text else { return nil }
        guard let address = IPAddress(text) else { throw UsageError(text: "\(option): expected an IP address, found \"\(text)\"") }
        return address
    }

    private static func hostName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// A folder gets a file named after the node and its instance, so that several proxies may share it.
    private static func stateFile(_ path: String, _ node: ClientNode) -> String {
        guard path.hasSuffix("/") || FileStamp.isFolder(path) else { return path }
        let name = [node.id, node.instance].filter { !$0.isEmpty }.joined(separator: "_")
        let safe = String(name.map { (letter: Character) -> Character in letter == "/" ? "_" : letter })
        return "\(path.hasSuffix("/") ? path : path + "/")\(safe).snapshot"
    }
}
