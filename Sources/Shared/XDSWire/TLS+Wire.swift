import Base
import ProxyConfig

/// envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.
enum DownstreamTLSField: Int, WireField {
    case common_tls_context = 1
    case require_client_certificate = 2
    case require_sni = 3
}

/// envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext.
enum UpstreamTLSField: Int, WireField {
    case common_tls_context = 1
    case sni = 2
    case auto_host_sni = 6
    case auto_sni_san_validation = 7
}

/// envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.
enum CommonTLSField: Int, WireField {
    case tls_params = 1
    case tls_certificates = 2
    case validation_context = 3
    case alpn_protocols = 4
    case tls_certificate_sds_secret_configs = 6
    case validation_context_sds_secret_config = 7
    case combined_validation_context = 8
    case tls_certificate_certificate_provider = 9
    case validation_context_certificate_provider = 10
    case tls_certificate_certificate_provider_instance = 11
    case validation_context_certificate_provider_instance = 12
    case custom_handshaker = 13
    case tls_certificate_provider_instance = 14
    case custom_tls_certificate_selector = 16
}

/// envoy.extensions.transport_sockets.tls.v3.TlsCertificate.
enum TLSCertificateField: Int, WireField {
    case certificate_chain = 1
    case private_key = 2
}

/// envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.
enum ValidationContextField: Int, WireField {
    case trusted_ca = 1
    case verify_certificate_hash = 2
    case verify_certificate_spki = 3
    case require_signed_certificate_timestamp = 6
    case crl = 7
    case match_subject_alt_names = 9
    case trust_chain_verification = 10
    case custom_validator_config = 12
    case ca_certificate_provider_instance = 13
    case match_typed_subject_alt_names = 15
    case max_verify_depth = 16
    case system_root_certs = 17
}

/// envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext.
enum CombinedValidationField: Int, WireField {
    case default_validation_context = 1
    case validation_context_sds_secret_config = 2
}

/// envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig.
enum SDSSecretConfigField: Int, WireField {
    case name = 1
    case sds_config = 2
}

/// envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.
enum SubjectAltNameMatcherField: Int, WireField {
    case san_type = 1
    case matcher = 2
}

// What names a certificate that nobody has (`.unresolved`): an SDS secret of this name, behind which stand the ARNs, with commas
// between them. Envoy waits for such a secret and keeps the listener closed meanwhile, which is what we mean.
private let unresolvedPrefix = "unresolved:"

extension DownstreamTLS: WireMessage {
    func write(to message: inout MessageWriter<DownstreamTLSField>) {
        message.message(.common_tls_context, CommonTLSField.self) {
            $0.write(certificate: certificate, validation: validation, alpn: alpn)
        }
        if validation != nil { message.wrapped(.require_client_certificate, requiresCertificate) }
    }

    static func read(_ message: MessageReader<DownstreamTLSField>) -> DownstreamTLS? {
        if message.wrappedBool(.require_sni) == true { message.refuse(.require_sni) }
        guard let common = message.required(.common_tls_context, CommonTLSField.self) else { return nil }
        let parts = common.parts()
        let isRequired = message.wrappedBool(.require_client_certificate) ?? false
        if isRequired, parts.validation == nil {
            message.fail(.require_client_certificate, expected: "a validation context beside it", found: "none")
        }
        guard let certificate = parts.certificate else {
            common.fail(.tls_certificates, expected: "one certificate, here or by SDS", found: "none")
            return nil
        }
        return DownstreamTLS(
            certificate: certificate, validation: parts.validation, requiresCertificate: isRequired || parts.validation == nil,
            alpn: parts.alpn)
    }
}

extension UpstreamTLS: WireMessage {
    /// `isEnforced` and `sparesPlaintextEndpoints` have no field here: see `Cluster`.
    func write(to message: inout MessageWriter<UpstreamTLSField>) {
        message.message(.common_tls_context, CommonTLSField.self) {
            $0.write(certificate: certificate, validation: validation, alpn: alpn)
        }
        message.string(.sni, sni ?? "")
    }

    static func read(_ message: MessageReader<UpstreamTLSField>) -> UpstreamTLS? {
        for field in [UpstreamTLSField.auto_host_sni, .auto_sni_san_validation] where message.bool(field) { message.refuse(field) }
        let parts = message.message(.common_tls_context, CommonTLSField.self)?.parts()
        let sni = message.string(.sni)
        return UpstreamTLS(
            validation: parts?.validation, certificate: parts?.certificate, sni: sni.isEmpty ? nil : sni, alpn: parts?.alpn ?? [])
    }
}

extension MessageWriter<CommonTLSField> {
    fileprivate mutating func write(certificate: CertificateSource?, validation: TLSValidation?, alpn: [String]) {
        switch certificate {
        case .file(let chain, let privateKey):
            message(.tls_certificates, TLSCertificateField.self) {
                $0.message(.certificate_chain, DataSourceField.self) { $0.chosenString(.filename, chain) }
                $0.message(.private_key, DataSourceField.self) { $0.chosenString(.filename, privateKey) }
            }
        case .sds(let name): secret(.tls_certificate_sds_secret_configs, name)
        case .unresolved(let arn): secret(.tls_certificate_sds_secret_configs, unresolvedPrefix + arn)
        case nil: break
        }
        if let validation { write(validation) }
        strings(.alpn_protocols, alpn)
    }

    private mutating func write(_ validation: TLSValidation) {
        let name: String
        switch validation.trust {
        case .file(let path):
            message(.validation_context, ValidationContextField.self) {
                $0.message(.trusted_ca, DataSourceField.self) { $0.chosenString(.filename, path) }
                $0.subjects(validation.subjectAlternativeNames)
            }
            return
        case .sds(let secret): name = secret
        case .unresolved(let arns): name = unresolvedPrefix + arns.joined(separator: ",")
        }
        if validation.subjectAlternativeNames.isEmpty {
            secret(.validation_context_sds_secret_config, name)
        } else {
            message(.combined_validation_context, CombinedValidationField.self) {
                $0.message(.default_validation_context, ValidationContextField.self) { $0.subjects(validation.subjectAlternativeNames) }
                $0.secret(.validation_context_sds_secret_config, name)
            }
        }
    }
}

extension MessageWriter {
    fileprivate mutating func secret(_ field: Field, _ name: String) {
        message(field, SDSSecretConfigField.self) {
            $0.string(.name, name)
            $0.adsSource(.sds_config)
        }
    }
}

extension MessageWriter<ValidationContextField> {
    mutating func subjects(_ names: [String]) {
        for name in names {
            message(.match_typed_subject_alt_names, SubjectAltNameMatcherField.self) {
                // DNS 2, URI 3, IP_ADDRESS 4: Envoy refuses a matcher of no type, and the spelling tells them apart.
                $0.number(.san_type, name.contains("://") ? 3 : IPAddress(name) == nil ? 2 : 4)
                $0.message(.matcher, StringMatcherField.self) { $0.chosenString(.exact, name) }
            }
        }
    }
}

extension MessageReader<CommonTLSField> {
    fileprivate func parts() -> (certificate: CertificateSource?, validation: TLSValidation?, alpn: [String]) {
        refuse(
            .tls_params, .custom_handshaker, .custom_tls_certificate_selector, .tls_certificate_provider_instance,
            .tls_certificate_certificate_provider, .tls_certificate_certificate_provider_instance, .validation_context_certificate_provider,
            .validation_context_certificate_provider_instance)
        let alpn = strings(.alpn_protocols)
        if alpn.contains("") { fail(.alpn_protocols, expected: "names of protocols", found: "an empty one") }
        return (certificate(), validation(), alpn)
    }

    private func certificate() -> CertificateSource? {
        let files: [CertificateSource] = messages(.tls_certificates, TLSCertificateField.self).compactMap { message in
            guard
                let chain = message.required(.certificate_chain, DataSourceField.self)?.requiredFilename(),
                let key = message.required(.private_key, DataSourceField.self)?.requiredFilename()
            else { return nil }
            return .file(chain: chain, privateKey: key)
        }
        let secrets: [CertificateSource] = messages(.tls_certificate_sds_secret_configs, SDSSecretConfigField.self).map { message in
            let name = message.secretName()
            return name.hasPrefix(unresolvedPrefix) ? .unresolved(arn: String(name.dropFirst(unresolvedPrefix.count))) : .sds(name: name)
        }
        if files.count + secrets.count > 1 {
            fail(.tls_certificates, expected: "one certificate, here or by SDS", found: "\(files.count + secrets.count)")
        }
        return (files + secrets).first
    }

    private func validation() -> TLSValidation? {
        switch chosen(.validation_context, .validation_context_sds_secret_config, .combined_validation_context) {
        case .validation_context:
            guard let context = message(.validation_context, ValidationContextField.self) else { return nil }
            let names = context.subjects()
            guard let path = context.required(.trusted_ca, DataSourceField.self)?.requiredFilename() else { return nil }
            return TLSValidation(trust: .file(path), subjectAlternativeNames: names)
        case .validation_context_sds_secret_config:
            return message(.validation_context_sds_secret_config, SDSSecretConfigField.self).map { TLSValidation(trust: $0.trust()) }
        case .combined_validation_context:
            guard let combined = message(.combined_validation_context, CombinedValidationField.self) else { return nil }
            let context = combined.message(.default_validation_context, ValidationContextField.self)
            context?.refuse(.trusted_ca)
            let names = context?.subjects() ?? []
            return combined.required(.validation_context_sds_secret_config, SDSSecretConfigField.self).map {
                TLSValidation(trust: $0.trust(), subjectAlternativeNames: names)
            }
        default: return nil
        }
    }
}

extension MessageReader<SDSSecretConfigField> {
    fileprivate func secretName() -> String {
        requireADSSource(.sds_config)
        return requiredString(.name)
    }

    fileprivate func trust() -> TrustSource {
        let name = secretName()
        guard name.hasPrefix(unresolvedPrefix) else { return .sds(name: name) }
        return .unresolved(arns: name.dropFirst(unresolvedPrefix.count).split(separator: ",").map(String.init))
    }
}

extension MessageReader<ValidationContextField> {
    /// The names one of which must stand in the certificate. Every other check that we could not make is refused: to leave out a
    /// check is to trust more than was asked.
    func subjects() -> [String] {
        refuse(
            .verify_certificate_hash, .verify_certificate_spki, .require_signed_certificate_timestamp, .crl, .custom_validator_config,
            .ca_certificate_provider_instance, .max_verify_depth, .system_root_certs)
        if number(.trust_chain_verification) != 0 {
            fail(.trust_chain_verification, expected: "VERIFY_TRUST_CHAIN (0)", found: number(.trust_chain_verification))
        }
        let typed = messages(.match_typed_subject_alt_names, SubjectAltNameMatcherField.self).compactMap { matcher in
            if !(2...4).contains(matcher.number(.san_type)) {
                matcher.fail(.san_type, expected: "DNS (2), URI (3) or IP_ADDRESS (4)", found: matcher.number(.san_type))
            }
            return matcher.required(.matcher, StringMatcherField.self)?.exactText()
        }
        return typed + messages(.match_subject_alt_names, StringMatcherField.self).compactMap { $0.exactText() }
    }
}
