import Base
import ProxyConfig

extension Secret: WireMessage {
    /// envoy.extensions.transport_sockets.tls.v3.Secret.
    enum Fields: Int, WireField {
        case name = 1
        case tls_certificate = 2
        case session_ticket_keys = 3
        case validation_context = 4
        case generic_secret = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        switch content {
        case .certificate(let chain, let privateKey):
            message.message(.tls_certificate, TLSCertificateField.self) {
                $0.message(.certificate_chain, DataSourceField.self) { $0.chosenBytes(.inline_bytes, chain) }
                $0.message(.private_key, DataSourceField.self) { $0.chosenBytes(.inline_bytes, privateKey) }
            }
        case .trust(let authorities, let names):
            message.message(.validation_context, ValidationContextField.self) {
                $0.message(.trusted_ca, DataSourceField.self) { $0.chosenBytes(.inline_bytes, authorities) }
                $0.subjects(names)
            }
        }
    }

    /// Contents must stand in the message: a file that a control plane names lies on its machine, not on ours.
    static func read(_ message: MessageReader<Fields>) -> Secret? {
        let name = message.requiredString(.name)
        switch message.chosen(.tls_certificate, .validation_context, .session_ticket_keys, .generic_secret) {
        case .tls_certificate:
            guard let certificate = message.message(.tls_certificate, TLSCertificateField.self) else { return nil }
            let chain = certificate.required(.certificate_chain, DataSourceField.self)?.requiredInlineBytes()
            let key = certificate.required(.private_key, DataSourceField.self)?.requiredInlineBytes()
            guard let chain, let key else { return nil }
            return Secret(name: name, content: .certificate(chain: chain, privateKey: key))
        case .validation_context:
            guard let context = message.message(.validation_context, ValidationContextField.self) else { return nil }
            let names = context.subjects()
            guard let authorities = context.required(.trusted_ca, DataSourceField.self)?.requiredInlineBytes() else { return nil }
            return Secret(name: name, content: .trust(authorities: authorities, subjectAlternativeNames: names))
        case let other:
            let found = other.map { "\($0)" } ?? "nothing"
            message.context.add(message.path, expected: "a tls_certificate or a validation_context", found: found)
            return nil
        }
    }
}
