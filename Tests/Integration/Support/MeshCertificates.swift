import Foundation
import ProxyConfig
import TestSupport

/// The certificates of a small mesh, made once for all tests.
struct MeshCertificates: Sendable {
    static let shared: MeshCertificates = {
        // Tests have no common end at which the folder could go by itself.
        atexit { try? FileManager.default.removeItem(atPath: MeshCertificates.shared.all.folder.path) }
        return try! MeshCertificates()
    }()

    let all: TestCertificates
    let mesh: TestCertificates.Authority
    /// Of the mesh.
    let server: TestCertificates.Pair
    let client: TestCertificates.Pair
    /// An authority that the mesh does not know, with certificates that say the same.
    let stranger: TestCertificates.Authority
    let strangerServer: TestCertificates.Pair
    let strangerClient: TestCertificates.Pair

    static let serverURI = "spiffe://mesh/server"
    static let serverName = "server.mesh.local"
    static let clientURI = "spiffe://mesh/client"

    init() throws {
        all = try TestCertificates()
        mesh = try all.authority("mesh")
        server = try mesh.issue("server", names: ["DNS:\(Self.serverName)", "URI:\(Self.serverURI)"])
        client = try mesh.issue("client", names: ["URI:\(Self.clientURI)", "DNS:client.mesh.local"], subject: "/O=Mesh, Inc./CN=client")
        stranger = try all.authority("stranger")
        strangerServer = try stranger.issue("stranger-server", names: ["DNS:\(Self.serverName)", "URI:\(Self.serverURI)"])
        strangerClient = try stranger.issue("stranger-client", names: ["URI:\(Self.clientURI)", "DNS:client.mesh.local"])
    }

    // MARK: The proxy's side

    /// What a listener does that shows the server's certificate; with `names` (perhaps none) it asks for one of the mesh.
    func downstream(_ pair: TestCertificates.Pair? = nil, clients names: [String]? = nil, alpn: [String] = ["h2", "http/1.1"])
        -> DownstreamTLS
    {
        let pair = pair ?? server
        return DownstreamTLS(
            certificate: .file(chain: pair.chain, privateKey: pair.key),
            validation: names.map { TLSValidation(trust: .file(mesh.certificate), subjectAlternativeNames: $0) }, alpn: alpn)
    }

    /// What a cluster does that trusts the mesh's authority.
    func upstream(
        names: [String] = [], pair: TestCertificates.Pair? = nil, sni: String? = nil, alpn: [String] = ["http/1.1"], isEnforced: Bool = true
    ) -> UpstreamTLS {
        UpstreamTLS(
            validation: TLSValidation(trust: .file(mesh.certificate), subjectAlternativeNames: names),
            certificate: pair.map { .file(chain: $0.chain, privateKey: $0.key) }, sni: sni, alpn: alpn, isEnforced: isEnforced)
    }

    // MARK: The test's side

    /// A caller of the mesh, or one without a certificate.
    func caller(_ pair: TestCertificates.Pair? = nil, protocols: [String] = []) -> TLSSettings {
        TLSSettings(pair: pair, trust: mesh.certificate, serverName: Self.serverName, protocols: protocols)
    }

    /// An endpoint of the mesh. `trust` = it wants to see a certificate.
    func endpoint(_ pair: TestCertificates.Pair? = nil, asks: Bool = false, protocols: [String] = ["http/1.1"]) -> TLSSettings {
        TLSSettings(pair: pair ?? server, trust: asks ? mesh.certificate : nil, protocols: protocols)
    }
}

extension Snapshot {
    enum TLSMode {
        case strict
        case permissive
    }

    /// The first listener takes TLS, or both.
    func listening(_ tls: DownstreamTLS, _ mode: TLSMode = .strict) -> Snapshot {
        var snapshot = self
        var chain = listeners[0].filterChains[0]
        chain.tls = tls
        snapshot.listeners[0].filterChains = [chain]
        if mode == .permissive {
            snapshot.listeners[0].filterChains[0].match.transportProtocol = .tls
            chain.tls = nil
            chain.name += "_plaintext"
            chain.match.transportProtocol = .plaintext
            snapshot.listeners[0].filterChains.append(chain)
        }
        return snapshot
    }

    /// The first cluster is called with TLS.
    func calling(_ tls: UpstreamTLS) -> Snapshot {
        var snapshot = self
        snapshot.clusters[0].tls = tls
        return snapshot
    }
}
