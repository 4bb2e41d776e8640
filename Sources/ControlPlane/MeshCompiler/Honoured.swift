import ProxyConfig

/// What a snapshot may ask for and the proxy does not do yet. Work on one of these ends with deleting its lines.
enum Honoured {
    private struct Missing {
        var feature: String
        /// What happens instead.
        var consequence: String
        /// Where the snapshot asks for it.
        var places: (Snapshot) -> [String]
    }

    private static var missing: [Missing] {
        [
            Missing(feature: "hedging", consequence: "no second attempt goes beside the first") { snapshot in
                snapshot.forwards.filter { $0.action.hedging != nil }.map(\.name)
            }
        ]
    }

    /// One warning for each feature, however often it is asked for.
    static func warnings(for snapshot: Snapshot) -> [Note] {
        missing.compactMap { missing in
            let places = Set(missing.places(snapshot)).sorted()
            guard let first = places.first else { return nil }
            return Note(
                kind: .warning, path: missing.feature, value: places.count == 1 ? first : "\(first) and \(places.count - 1) more",
                text: "outrigger-proxy does not support this yet: \(missing.consequence)")
        } + withoutFile(snapshot)
    }

    /// This stays as long as nobody delivers secrets: a name alone is no certificate.
    private static func withoutFile(_ snapshot: Snapshot) -> [Note] {
        var texts: [String: String] = [:]
        func note(arn: String) {
            texts[arn] =
                "no file is known for this certificate: what needs it stays closed; name one in a Sidecar "
                + "(spec.certificates, spec.authorities)"
        }
        func note(secret: String) {
            texts["secret \"\(secret)\""] = "nothing delivers secrets by SDS yet: what needs it stays closed; name files instead"
        }
        func look(_ certificate: CertificateSource?, _ validation: TLSValidation?) {
            switch certificate {
            case .unresolved(let arn): note(arn: arn)
            case .sds(let name): note(secret: name)
            case .file, nil: break
            }
            switch validation?.trust {
            case .unresolved(let arns): arns.forEach(note(arn:))
            case .sds(let name): note(secret: name)
            case .file, nil: break
            }
        }
        for tls in snapshot.listeners.flatMap(\.filterChains).compactMap(\.tls) { look(tls.certificate, tls.validation) }
        for tls in snapshot.clusters.compactMap(\.tls) { look(tls.certificate, tls.validation) }
        return texts.map { Note(kind: .warning, path: $0.key, text: $0.value) }
    }
}

extension Snapshot {
    fileprivate var forwards: [(name: String, action: ForwardAction)] {
        routeConfigurations.flatMap { configuration in
            configuration.virtualHosts.flatMap { host in
                host.routes.compactMap { route in
                    if case .forward(let action) = route.action { ("\(host.name) \(route.name)", action) } else { nil }
                }
            }
        }
    }
}
