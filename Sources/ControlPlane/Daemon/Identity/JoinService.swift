import Base
import CertificateAuthority
import ControlAPI
import EventStore
import Foundation
import HTTPServer
import MeshModel
import Projections
import ProxyConfig
import Reactor
import Transport

/// Gives proxies their certificates: the first for a token, every other for the one before. What it signs is recorded before it is given.
final class JoinService {
    private let controller: Controller
    private let authority: CertificateAuthority
    /// Tokens whose use is being recorded: nobody else joins with them meanwhile.
    private var tokensAtWork: Set<String> = []
    /// In seconds since 1970: once a day.
    private var warnedAt: Int64?
    /// When the root before the present one is not trusted any more, and to look at the present one.
    private var retirement: LoopTimer!

    /// - Parameter changesRoot: another root is to sign from now on.
    /// - Throws: `AuthorityError`: the change before is not over.
    init(_ controller: Controller, _ authority: CertificateAuthority, changesRoot: Bool) throws {
        self.controller = controller
        self.authority = authority
        let known = controller.journal.models.certificates.authorities.last?.id
        if authority.isNew {
            if let known {
                Log.warning("join", "the folder ca has lost authority \(known.prefix(16)): proxies must join again, each with a token")
            }
        } else if changesRoot {
            try changeRoot()
        }
        if authority.root.id != known { recordRoot(isFirst: known == nil) }
        retirement = LoopTimer { [unowned self] _ in retire() }
        retire()
    }

    deinit {
        controller.loop.cancelDeadline(retirement)
    }

    private var now: Int64 { controller.journal.now.milliseconds / 1000 }

    /// Whom to trust, in PEM.
    var trustBundle: String { authority.trustBundle(now: now) }

    /// When the last certificate of the present root ends.
    private var leavesEnd: Int64 {
        let issued = controller.journal.models.certificates.certificates.values.filter { $0.authority == authority.root.id }
        return issued.map { $0.notAfter.milliseconds / 1000 }.max() ?? now
    }

    private func changeRoot() throws(AuthorityError) {
        let end = leavesEnd
        try authority.rotate(now: now, leavesEnd: end)
        Log.info("join", "another authority signs now; the one before is trusted for \(max(0, end - now)) s more")
    }

    // MARK: For people

    /// - Parameter actor: who wants it.
    func rotate(actor: String) -> Result<AuthorityStatus, Problem> {
        do {
            try changeRoot()
        } catch {
            guard case .isRotating = error else { return .failure(.internal("\(error)")) }
            return .failure(Problem("conflict", status: 409, title: "The change before is not over", detail: "\(error)"))
        }
        recordRoot(isFirst: false, actor: actor)
        retire()
        return .success(status)
    }

    var status: AuthorityStatus {
        let issued = controller.journal.models.certificates.certificates.values.filter { $0.notAfter > controller.journal.now }
        let retired = authority.retired(now: now)
        func root(_ root: CertificateAuthority.Root) -> AuthorityStatus.Root {
            AuthorityStatus.Root(id: root.id, expires: UnixTime(milliseconds: root.notAfter * 1000).text)
        }
        return AuthorityStatus(
            root: root(authority.root), previous: retired.map { root($0.root) },
            previousTrustedUntil: retired.map { UnixTime(milliseconds: $0.until * 1000).text },
            certificates: issued.count { controller.authorities.contains($0.authority) },
            certificatesOfPrevious: issued.count { $0.authority == retired?.root.id },
            certificateLifeSeconds: Int(authority.leafLife), warning: authority.warning(now: now))
    }

    private func recordRoot(isFirst: Bool, actor: String = "system") {
        let root = authority.root
        let change = AuthorityChange(
            authority: root.id, certificatePEM: root.pem, notAfter: UnixTime(milliseconds: root.notAfter * 1000))
        controller.journal.record([isFirst ? .authorityCreated(change) : .authorityRotated(change)], actor: actor)
    }

    /// Takes the root before out of the bundle when its time has come; until then, looks again.
    private func retire() {
        controller.publisher.trustBundle = Array(trustBundle.utf8)
        let retired = authority.retired(now: now)
        controller.authorities = Set([authority.root.id] + (retired.map { [$0.root.id] } ?? []))
        if let warning = authority.warning(now: now), warnedAt.map({ now - $0 >= 86_400 }) ?? true {
            warnedAt = now
            Log.warning("join", warning)
        }
        // Clocks may be set meanwhile: no longer than an hour at a time.
        let wait = min(3600, retired.map { $0.until - now + 1 } ?? 3600)
        controller.loop.setDeadline(retirement, controller.loop.now + .seconds(wait))
    }

    /// TLS for the port. Clients may show a certificate of the mesh's own authority, or of those in the file `clientAuthority`; who joins
    /// has none yet.
    func serverContext(chain: String, key: String, clientAuthority: String?) throws -> TLSContext {
        let clients = "the authorities of clients"
        let tls = DownstreamTLS(
            certificate: .file(chain: chain, privateKey: key), validation: TLSValidation(trust: .file(clients)),
            requiresCertificate: false, alpn: ["h2", "http/1.1"])
        return try TLSContext.server(tls, now: now) { [trustBundle] path in
            func read(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
            guard path == clients else { return try read(path) }
            return try Array(trustBundle.utf8) + (clientAuthority.map { try read($0) } ?? [])
        }
    }

    // MARK: Joining

    /// Of a caller whom we do not know yet: a request for a certificate of the largest key has 16 KiB.
    private static let maxBodyBytes = 64 << 10
    /// Enough for any name of a host.
    private static let maxInstanceBytes = 255

    func join(_ request: APIRequest) {
        request.read(JoinRequest.self, limit: Self.maxBodyBytes) { [self] asked in
            guard (1...Self.maxInstanceBytes).contains(asked.instance.utf8.count),
                asked.instance.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f })
            else {
                let detail = "instance: expected a name of 1 through \(Self.maxInstanceBytes) bytes without spaces, found another"
                return request.refuse(Problem("bad-body", status: 400, title: "The body is not what is expected here", detail: detail))
            }
            switch admission(asked, request) {
            case .failure(let problem):
                Log.warning("join", "\(request.exchange.peer): refused: \(problem.detail ?? problem.title)")
                request.refuse(problem)
            case .success(let admitted): sign(asked, admitted, request)
            }
        }
    }

    private struct Admission {
        var node: ObjectKey
        /// That lets it in; nil: its certificate does.
        var token: String?
    }

    private func admission(_ asked: JoinRequest, _ request: APIRequest) -> Result<Admission, Problem> {
        guard let token = asked.token else { return renewal(asked, request) }
        switch controller.journal.models.tokens.check(hash: Access.hash(token), now: controller.journal.now) {
        case .failure(let problem): return .failure(.refusedToken("\(problem)"))
        case .success(let found):
            guard found.creation.role == "join", let node = found.creation.node else {
                return .failure(.refusedToken("it is a token of the API; `outrigger token create` makes one to join with"))
            }
            guard !tokensAtWork.contains(found.creation.id) else { return .failure(.refusedToken("the token was used before")) }
            return .success(Admission(node: node, token: found.creation.id))
        }
    }

    /// Who shows a certificate that we signed gets the next one. TLS has checked that it holds and that the key is there.
    private func renewal(_ asked: JoinRequest, _ request: APIRequest) -> Result<Admission, Problem> {
        guard let peer = request.exchange.identity else { return ofThisMachine(asked, request) }
        // Other authorities (--client-ca) may have signed the same name: theirs is not ours to renew.
        guard let issued = controller.journal.models.certificates.certificates[peer.certificate.serial],
            peer.certificate.uriNames == [issued.identity]
        else { return .failure(.refusedToken("the client certificate (\(peer.name)) is none of this control plane")) }
        return .success(Admission(node: issued.instance.node, token: nil))
    }

    /// Who may make tokens without showing one needs none: plaintext on this machine shows no certificate either.
    private func ofThisMachine(_ asked: JoinRequest, _ request: APIRequest) -> Result<Admission, Problem> {
        guard request.exchange.isLoopback, controller.options.trustsLoopback, let subject = asked.subject,
            let node = ObjectKey(subject, defaultNamespace: "default"), node.joins
        else { return .failure(.refusedToken("neither a token nor a client certificate was shown")) }
        return .success(Admission(node: node, token: nil))
    }

    private func sign(_ asked: JoinRequest, _ admitted: Admission, _ request: APIRequest) {
        guard let key = admitted.node.resource, controller.mesh[key] != nil, let identity = controller.mesh.identity(of: key) else {
            return request.refuse(.notFound("\(admitted.node) is in no mesh here: apply it first, the token stays good."))
        }
        let instance = InstanceKey(node: admitted.node, instance: asked.instance)
        let leaf: CertificateAuthority.Leaf
        do {
            leaf = try authority.sign(request: asked.certificateRequest, identity: identity, name: key.name, now: now)
        } catch {
            if case .badRequest = error {
                let title = "The certificate request is not valid"
                return request.refuse(Problem("bad-body", status: 400, title: title, detail: "\(error)"))
            }
            return request.refuse(.internal("\(error)"))
        }
        let notAfter = UnixTime(milliseconds: leaf.notAfter * 1000)
        var events = [
            MeshEvent.certificateIssued(
                IssuedCertificate(
                    serial: leaf.serial, instance: instance, identity: identity, notBefore: UnixTime(milliseconds: leaf.notBefore * 1000),
                    notAfter: notAfter, authority: leaf.authority))
        ]
        if let token = admitted.token {
            events.append(.tokenUsed(TokenChange(id: token, instance: instance)))
            tokensAtWork.insert(token)
        }
        controller.journal.record(events, actor: "proxy:\(instance)") { [self] result in
            if let token = admitted.token { tokensAtWork.remove(token) }
            switch result {
            case .failure(let error): request.refuse(.internal("\(error)"))
            case .success:
                Log.info("join", "\(instance) \(admitted.token == nil ? "renewed" : "joined"): \(leaf.serial), until \(notAfter.text)")
                request.answer(JoinReply(certificateChain: leaf.chain, trustBundle: trustBundle, expires: notAfter.text))
            }
        }
    }
}

extension Problem {
    fileprivate static func refusedToken(_ words: String) -> Problem {
        Problem("not-admitted", status: 401, title: "This proxy may not join", detail: words)
    }
}
