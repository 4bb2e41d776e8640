import Base
import MeshModel

extension CertificateOrigin {
    /// `acm` belongs to listeners only.
    static func read(_ object: ObjectReader, withACM: Bool) -> CertificateOrigin? {
        var choices: [ObjectReader.Choice<CertificateOrigin>] = [
            .init("file", .object(file)),
            .init("sds", .object { $0.required("secretName", .name).map { .sds(secretName: $0) } }),
        ]
        if withACM {
            choices.insert(.init("acm", .object { $0.required("certificateARN", .name).map { .acm(arn: $0) } }), at: 0)
        }
        return object.exactlyOne(choices)
    }

    private static func file(_ object: ObjectReader) -> CertificateOrigin? {
        let chain = object.required("certificateChain", .string(1...255))
        let key = object.required("privateKey", .string(1...255))
        guard let chain, let key else { return nil }
        return .file(certificateChain: chain, privateKey: key)
    }
}

extension TrustOrigin {
    /// `acm` belongs to clients only.
    static func read(_ object: ObjectReader, withACM: Bool) -> TrustOrigin? {
        var choices: [ObjectReader.Choice<TrustOrigin>] = [
            .init("file", .object { $0.required("certificateChain", .string(1...255)).map { .file(certificateChain: $0) } }),
            .init("sds", .object { $0.required("secretName", .name).map { .sds(secretName: $0) } }),
        ]
        if withACM {
            let authorities = FieldType.list(of: .name, count: 1...3)
            choices.insert(
                .init("acm", .object { $0.required("certificateAuthorityARNs", authorities).map { .acm(authorityARNs: $0) } }), at: 0)
        }
        return object.exactlyOne(choices)
    }
}

extension PeerValidation {
    static func type(withACM: Bool) -> FieldType<PeerValidation> {
        .object { object in
            let trust = object.required("trust", .object { TrustOrigin.read($0, withACM: withACM) })
            let names = object.optional("subjectAlternativeNames", .object(Self.names))
            return trust.map { PeerValidation(trust: $0, subjectAlternativeNames: names) }
        }
    }

    private static func names(_ object: ObjectReader) -> [String]? {
        object.required("match", .object { $0.required("exact", .list(of: .string(1...254))) })
    }
}

extension ListenerTLS {
    init?(_ object: ObjectReader) {
        let mode = object.required("mode", .oneOf(Mode.allCases))
        let certificate = object.required("certificate", .object { CertificateOrigin.read($0, withACM: true) })
        let validation = object.optional("validation", PeerValidation.type(withACM: false))
        guard let mode, let certificate else { return nil }
        self.init(mode: mode, certificate: certificate, validation: validation)
    }
}

extension ClientPolicy {
    init?(_ object: ObjectReader) {
        self.init(tls: object.optional("tls", .object(TLS.init)))
    }

    /// `backendDefaults: {clientPolicy: ...}`.
    static func backendDefaults(_ object: ObjectReader) -> ClientPolicy? {
        object.optional("clientPolicy", .object(ClientPolicy.init))
    }
}

extension ClientPolicy.TLS {
    init?(_ object: ObjectReader) {
        let enforce = object.optional("enforce", .bool)
        let ports = object.list("ports", of: .port)
        let validation = object.required("validation", PeerValidation.type(withACM: true))
        let certificate = object.optional("certificate", .object { CertificateOrigin.read($0, withACM: false) })
        guard let validation else { return nil }
        self.init(enforce: enforce, ports: ports, validation: validation, certificate: certificate)
    }
}
