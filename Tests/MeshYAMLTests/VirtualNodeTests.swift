import Base
import MeshModel
import Testing

@testable import MeshYAML

@Suite("VirtualNode, field by field")
struct VirtualNodeTests {
    @Test("every field reaches the model")
    func everyField() throws {
        let yaml = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata:
              name: cart
              namespace: shop
              labels: {tier: web}
              annotations: {note: "1"}
            spec:
              awsName: cart-node
              podSelector:
                matchLabels: {app: cart}
                matchExpressions: [{key: version, operator: NotIn, values: [old]}, {key: app, operator: Exists}]
              listeners:
              - portMapping: {port: 8080, protocol: http}
                healthCheck:
                  {protocol: http, path: /ping, port: 8080, healthyThreshold: 2, unhealthyThreshold: 3,
                   timeoutMillis: 2000, intervalMillis: 5000}
                outlierDetection: {maxServerErrors: 5, interval: {unit: s, value: 10}, baseEjectionDuration: 500ms, maxEjectionPercent: 100}
                connectionPool: {http: {maxConnections: 10, maxPendingRequests: 5}}
                timeout: {http: {perRequest: {unit: ms, value: 500}, idle: 0s}}
                tls:
                  mode: PERMISSIVE
                  certificate: {acm: {certificateARN: "arn:aws:acm:eu-west-1:1:certificate/a"}}
                  validation: {trust: {sds: {secretName: ca}}, subjectAlternativeNames: {match: {exact: [front.example]}}}
              serviceDiscovery:
                awsCloudMap:
                  namespaceName: shop.local
                  serviceName: cart
                  attributes: [{key: color, value: blue}]
                  ipPreference: IPv4_PREFERRED
              backends:
              - virtualService: {virtualServiceRef: {name: stock, namespace: back}}
              - virtualService:
                  virtualServiceARN: "arn:aws:appmesh:eu-west-1:1:mesh/m/virtualService/pay"
                  clientPolicy:
                    tls:
                      enforce: false
                      ports: [443]
                      validation: {trust: {acm: {certificateAuthorityARNs: ["arn:aws:acm-pca:1"]}}}
                      certificate: {sds: {secretName: cart}}
              backendGroups: [{name: common}, {name: "*", namespace: back}]
              backendDefaults: {clientPolicy: {tls: {validation: {trust: {file: {certificateChain: /ca.pem}}}}}}
              logging: {accessLog: {file: {path: /dev/stdout, format: {json: [{key: at, value: "%START_TIME%"}]}}}}
            """
        let result = Manifests.load(("app.yaml", yaml))
        #expect(result.diagnostics.filter { $0.severity == .error } == [])
        let node = try #require(result.resources.virtualNodes.first)
        let second = Duration.seconds(1)
        let listener = VirtualNode.Listener(
            portMapping: PortMapping(port: 8080, protocol: .http),
            healthCheck: HealthCheckPolicy(
                healthyThreshold: 2, unhealthyThreshold: 3, interval: second * 5, timeout: second * 2, protocol: .http, path: "/ping",
                port: 8080),
            outlierDetection: OutlierDetectionPolicy(
                maxServerErrors: 5, interval: second * 10, baseEjectionDuration: .milliseconds(500), maxEjectionPercent: 100),
            connectionPool: .http(maxConnections: 10, maxPendingRequests: 5),
            timeout: ListenerTimeout(protocol: .http, policy: TimeoutPolicy(perRequest: .milliseconds(500), idle: .zero)),
            tls: ListenerTLS(
                mode: .permissive, certificate: .acm(arn: "arn:aws:acm:eu-west-1:1:certificate/a"),
                validation: PeerValidation(trust: .sds(secretName: "ca"), subjectAlternativeNames: ["front.example"])))
        let expected = VirtualNode(
            meta: ResourceMeta(name: "cart", namespace: "shop", labels: ["tier": "web"], annotations: ["note": "1"]),
            awsName: "cart-node",
            podSelector: LabelSelector(
                matchLabels: ["app": "cart"],
                matchExpressions: [
                    LabelSelector.Requirement(key: "version", operator: .notIn, values: ["old"]),
                    LabelSelector.Requirement(key: "app", operator: .exists),
                ]),
            listeners: [listener],
            serviceDiscovery: .awsCloudMap(
                VirtualNode.CloudMapDiscovery(
                    namespaceName: "shop.local", serviceName: "cart", attributes: [VirtualNode.Attribute(key: "color", value: "blue")],
                    ipPreference: .v4Preferred)),
            backends: [
                VirtualNode.Backend(virtualService: .object(ObjectReference(name: "stock", namespace: "back"))),
                VirtualNode.Backend(
                    virtualService: .arn("arn:aws:appmesh:eu-west-1:1:mesh/m/virtualService/pay"),
                    clientPolicy: ClientPolicy(
                        tls: ClientPolicy.TLS(
                            enforce: false, ports: [443], validation: PeerValidation(trust: .acm(authorityARNs: ["arn:aws:acm-pca:1"])),
                            certificate: .sds(secretName: "cart")))),
            ],
            backendGroups: [ObjectReference(name: "common"), ObjectReference(name: "*", namespace: "back")],
            backendDefaults: ClientPolicy(tls: ClientPolicy.TLS(validation: PeerValidation(trust: .file(certificateChain: "/ca.pem")))),
            accessLog: AccessLogFile(path: "/dev/stdout", format: .json([AccessLogFile.Field(key: "at", value: "%START_TIME%")])))
        #expect(node == expected)
        #expect(node.meshName == "cart-node")
        #expect(
            result.resources.places.location(of: FieldPath.parse("spec.listeners[0].portMapping.port"), in: node.key)
                == SourceLocation(file: "app.yaml", line: 14, column: 25, document: 1))
        // What the file does not have is missed in what surrounds it.
        #expect(result.resources.places.location(of: FieldPath.parse("spec.listeners[0].nothing"), in: node.key)?.line == 14)
    }

    static let discovery = "serviceDiscovery: {dns: {hostname: a}}\n"

    @Test(
        "a listener's limits and alternatives",
        arguments: [
            ("portMapping: {port: 0, protocol: http}", ".portMapping.port: expected a port from 1 through 65535, found 0"),
            ("portMapping: {port: 70000, protocol: http}", ".portMapping.port: expected a port from 1 through 65535, found 70000"),
            (
                "portMapping: {port: \"80\", protocol: http}",
                ".portMapping.port: expected a port from 1 through 65535, found the string \"80\""
            ),
            ("portMapping: {port: 80.5, protocol: http}", ".portMapping.port: expected a port from 1 through 65535, found 80.5"),
            ("portMapping: {port: 0x50, protocol: http}", ".portMapping.port: expected a port from 1 through 65535, found 0x50"),
            ("portMapping: {port: 080, protocol: http}", ".portMapping.port: expected a port from 1 through 65535, found 080"),
            ("portMapping: {protocol: http}", ".portMapping.port: expected a port from 1 through 65535 (required), found nothing"),
            ("portMapping: {port: 80}", ".portMapping.protocol: expected one of grpc, http, http2, tcp (required), found nothing"),
            ("portMapping: {port: 80, protocol: https}", ".portMapping.protocol: expected one of grpc, http, http2, tcp, found https"),
            ("portMapping: 80", ".portMapping: expected a mapping, found 80"),
            ("\(http), healthCheck: {\(check)}", nil),
            ("\(http), healthCheck: {\(check), port: 81}", ".healthCheck.port: expected the listener's port 80, found 81"),
            (
                "\(http), healthCheck: {\(check.replacing("healthyThreshold: 2", with: "healthyThreshold: 1"))}",
                ".healthCheck.healthyThreshold: expected an integer from 2 through 10, found 1"
            ),
            (
                "\(http), healthCheck: {\(check.replacing("healthyThreshold: 2, ", with: ""))}",
                ".healthCheck.healthyThreshold: expected an integer from 2 through 10 (required), found nothing"
            ),
            (
                "\(http), healthCheck: {\(check.replacing("unhealthyThreshold: 3", with: "unhealthyThreshold: 11"))}",
                ".healthCheck.unhealthyThreshold: expected an integer from 2 through 10, found 11"
            ),
            (
                "\(http), healthCheck: {\(check.replacing("5000", with: "4999"))}",
                ".healthCheck.intervalMillis: expected an integer from 5000 through 300000, found 4999"
            ),
            (
                "\(http), healthCheck: {\(check.replacing("2000", with: "60001"))}",
                ".healthCheck.timeoutMillis: expected an integer from 2000 through 60000, found 60001"
            ),
            (
                "\(http), healthCheck: {\(check.replacing("protocol: http", with: "protocol: udp"))}",
                ".healthCheck.protocol: expected one of grpc, http, http2, tcp, found udp"
            ),
            ("\(http), connectionPool: {}", nil),
            (
                "\(http), connectionPool: {http: {maxConnections: 0}}",
                ".connectionPool.http.maxConnections: expected an integer of at least 1, found 0"
            ),
            (
                "\(http), connectionPool: {http: {maxPendingRequests: 1}}",
                ".connectionPool.http.maxConnections: expected an integer of at least 1 (required), found nothing"
            ),
            (
                "\(http), connectionPool: {http: {maxConnections: 1}, tcp: {maxConnections: 1}}",
                ".connectionPool: Only one type of Virtual Node Connection Pool is allowed"
            ),
            (
                "\(http), connectionPool: {http2: {maxRequests: 1}}",
                ".connectionPool.http2: expected the listener's protocol http, found http2"
            ),
            ("portMapping: {port: 80, protocol: grpc}, connectionPool: {grpc: {maxRequests: 7}}", nil),
            ("\(http), timeout: {}", nil),
            ("\(http), timeout: {http: {perRequest: 0s}}", nil),
            ("\(http), timeout: {tcp: {idle: 1s}}", ".timeout.tcp: expected the listener's protocol http, found tcp"),
            (
                "\(http), timeout: {http: {}, grpc: {}}",
                ".timeout: expected only one of tcp, http, http2, grpc, found http and grpc"
            ),
            ("\(http), tls: {mode: STRICT}", ".tls.certificate: expected a mapping (required), found nothing"),
            (
                "\(http), tls: {mode: strict, certificate: {sds: {secretName: a}}}",
                ".tls.mode: expected one of STRICT, PERMISSIVE, DISABLED, found strict"
            ),
            ("\(http), tls: {mode: STRICT, certificate: {}}", ".tls.certificate: expected exactly one of acm, file, sds, found none"),
            (
                "\(http), tls: {mode: STRICT, certificate: {sds: {secretName: a}, acm: {certificateARN: b}}}",
                ".tls.certificate: expected only one of acm, file, sds, found acm and sds"
            ),
            (
                "\(http), tls: {mode: STRICT, certificate: {file: {certificateChain: /a.pem}}}",
                ".tls.certificate.file.privateKey: expected a string of 1 through 255 characters (required), found nothing"
            ),
            (
                "\(http), tls: {mode: STRICT, certificate: {sds: {secretName: a}}, validation: {trust: {}}}",
                ".tls.validation.trust: expected exactly one of file, sds, found none"
            ),
            (
                "\(http), tls: {mode: STRICT, certificate: {sds: {secretName: a}}, validation: {trust: {sds: {secretName: a}}, "
                    + "subjectAlternativeNames: {}}}",
                ".tls.validation.subjectAlternativeNames.match: expected a mapping (required), found nothing"
            ),
        ] as [(String, String?)])
    func listener(text: String, expected: String?) {
        let problems = Manifests.problems(.virtualNode, Self.discovery + "listeners: [{\(text)}]")
        #expect(problems == (expected.map { ["spec.listeners[0]" + $0] } ?? []))
    }

    private static let http = "portMapping: {port: 80, protocol: http}"
    private static let check = "protocol: http, healthyThreshold: 2, unhealthyThreshold: 3, timeoutMillis: 2000, intervalMillis: 5000"

    @Test(
        "the rest of the limits and alternatives",
        arguments: [
            ("serviceDiscovery: {}", ".serviceDiscovery: expected exactly one of dns, awsCloudMap, found none"),
            (
                "serviceDiscovery: {dns: {hostname: a}, awsCloudMap: {namespaceName: a, serviceName: b}}",
                ".serviceDiscovery: expected only one of dns, awsCloudMap, found dns and awsCloudMap"
            ),
            (
                "serviceDiscovery: {dns: {}}",
                ".serviceDiscovery.dns.hostname: expected a string that is not empty (required), found nothing"
            ),
            (
                "serviceDiscovery: {dns: {hostname: \"\"}}",
                ".serviceDiscovery.dns.hostname: expected a string that is not empty, found an empty string"
            ),
            (
                "serviceDiscovery: {dns: {hostname: a, responseType: ALL}}",
                ".serviceDiscovery.dns.responseType: expected one of LOADBALANCER, ENDPOINTS, found ALL"
            ),
            (
                "serviceDiscovery: {dns: {hostname: a, ipPreference: IPv5}}",
                ".serviceDiscovery.dns.ipPreference: expected one of IPv4_ONLY, IPv6_ONLY, IPv4_PREFERRED, IPv6_PREFERRED, found IPv5"
            ),
            (
                "serviceDiscovery: {awsCloudMap: {namespaceName: a, serviceName: b, attributes: [{key: c}]}}",
                ".serviceDiscovery.awsCloudMap.attributes[0].value: expected a string of 1 through 1024 characters (required), "
                    + "found nothing"
            ),
            (
                "backends: [{virtualService: {}}]",
                ".backends[0].virtualService: expected exactly one of virtualServiceRef, virtualServiceARN, found none"
            ),
            (
                "backends: [{virtualService: {virtualServiceRef: {name: a}, virtualServiceARN: b}}]",
                ".backends[0].virtualService: expected only one of virtualServiceRef, virtualServiceARN, found virtualServiceRef "
                    + "and virtualServiceARN"
            ),
            ("backends: [{}]", ".backends[0].virtualService: expected a mapping (required), found nothing"),
            ("backends: [null]", ".backends[0]: expected a mapping, found nothing"),
            ("backends: {virtualService: a}", ".backends: expected a list, found a mapping"),
            (
                "backendDefaults: {clientPolicy: {tls: {}}}",
                ".backendDefaults.clientPolicy.tls.validation: expected a mapping (required), found nothing"
            ),
            (
                "backendDefaults: {clientPolicy: {tls: {enforce: 1, validation: {trust: {sds: {secretName: a}}}}}}",
                ".backendDefaults.clientPolicy.tls.enforce: expected true or false, found 1"
            ),
            (
                "backendDefaults: {clientPolicy: {tls: {validation: {trust: {acm: {certificateAuthorityARNs: [a, b, c, d]}}}}}}",
                ".backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityARNs: expected a list of 1 through 3, found 4"
            ),
            (
                "backendDefaults: {clientPolicy: {tls: {certificate: {acm: {certificateARN: a}}, validation: {trust: {sds: "
                    + "{secretName: a}}}}}}",
                ".backendDefaults.clientPolicy.tls.certificate: expected exactly one of file, sds, found none"
            ),
            (
                "logging: {accessLog: {file: {}}}",
                ".logging.accessLog.file.path: expected a string of 1 through 255 characters (required), found nothing"
            ),
            (
                "logging: {accessLog: {file: {path: /a, format: {text: a, json: []}}}}",
                ".logging.accessLog.file.format: expected only one of text, json, found text and json"
            ),
            (
                "logging: {accessLog: {file: {path: /a, format: {json: [{key: a, value: \"\"}]}}}}",
                ".logging.accessLog.file.format.json[0].value: expected a string of 1 through 100 characters, found an empty string"
            ),
            (
                "podSelector: {matchExpressions: [{key: a, operator: In}]}",
                ".podSelector.matchExpressions[0].values: expected a list of at least 1 (required), found nothing"
            ),
            (
                "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
                ".podSelector.matchExpressions[0].values: expected nothing with operator Exists, found a list"
            ),
            ("podSelector: {matchLabels: {a: 1}}", ".podSelector.matchLabels.a: expected a string, found the number 1 without quotes"),
            (
                "podSelector: {matchLabels: {a: true}}",
                ".podSelector.matchLabels.a: expected a string, found the Boolean true without quotes"
            ),
            ("awsName: {}", ".awsName: expected a string that is not empty, found an empty mapping"),
        ] as [(String, String)])
    func rest(text: String, expected: String) {
        let problems = Manifests.problems(.virtualNode, text).filter { !$0.contains("unknown field") }
        #expect(problems == ["spec" + expected])
    }

    @Test("unknown fields warn, with the name that was meant; strict ones are errors")
    func unknownFields() {
        let spec = "serviceDiscovry: {dns: {hostname: a}}\nlisteners: []\nfrobnicate: 1"
        #expect(
            Manifests.problems(.virtualNode, spec) == [
                "warning: spec.serviceDiscovry: unknown field, ignored; did you mean serviceDiscovery?",
                "warning: spec.frobnicate: unknown field, ignored",
            ])
        let yaml =
            Manifests.mesh
            + "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: a, nam: b}\nspec: {listener: []}\n"
        #expect(
            Manifests.diagnose(yaml, options: LoadOptions(strict: true)) == [
                "app.yaml:8:21: VirtualNode/a metadata.nam: unknown field; did you mean name?",
                "app.yaml:9:8: VirtualNode/a spec.listener: unknown field; did you mean listeners?",
            ])
    }

    @Test("an export of a cluster loads; what the system filled in is ignored with a warning")
    func exports() {
        let yaml = """
            apiVersion: v1
            kind: List
            items:
            - apiVersion: appmesh.k8s.aws/v1beta2
              kind: Mesh
              metadata: {name: demo, uid: "1", resourceVersion: "7", creationTimestamp: "2021-01-01", generation: 2, finalizers: [a]}
              spec: {namespaceSelector: {}}
              status: {conditions: []}
            - apiVersion: appmesh.k8s.aws/v1beta2
              kind: VirtualNode
              metadata: {name: a, namespace: default}
              spec: {meshRef: {name: demo, uid: "1"}}
            """
        #expect(
            Manifests.diagnose(yaml) == [
                "app.yaml:6:26: warning: Mesh/demo metadata: ignored, Kubernetes fills it in: uid, resourceVersion, "
                    + "creationTimestamp, generation, finalizers",
                "app.yaml:8:3: warning: Mesh/demo status: ignored, the system fills it in",
                "app.yaml:12:10: warning: VirtualNode/a spec.meshRef: ignored, the system fills it in",
            ])
    }

    @Test("all errors of a resource are reported at once, in the order of lines")
    func allAtOnce() {
        let spec = """
            awsName: 7
            listeners:
            - portMapping: {port: 70000, protocol: http}
            - portMapping: {port: 80, protocol: ftp}
            serviceDiscovery: {dns: {}}
            """
        #expect(
            Manifests.problems(.virtualNode, spec).map { String($0.prefix { $0 != ":" }) } == [
                "spec.awsName", "spec.listeners[0].portMapping.port", "spec.listeners[1].portMapping.protocol",
                "spec.serviceDiscovery.dns.hostname",
            ])
    }

    @Test("a name is what Kubernetes takes", arguments: ["Cart", "cart_1", "-cart", "cart.", "${APP}", "a/b"])
    func names(name: String) {
        let yaml =
            Manifests.mesh + "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {name: \"\(name)\"}\nspec: {}\n"
        #expect(
            Manifests.diagnose(yaml) == [
                "app.yaml:8:18: VirtualService metadata.name: expected a name of lower-case letters, digits, \"-\" and \".\", at "
                    + "most 253, found \"\(name)\""
            ])
    }
}

extension FieldPath {
    /// `a.b[0].c`
    static func parse(_ text: String) -> FieldPath {
        var path = FieldPath()
        for part in text.split(separator: ".") {
            let pieces = part.split(separator: "[")
            path = path / String(pieces[0])
            for index in pieces.dropFirst() { path = path[Int(index.dropLast())!] }
        }
        return path
    }
}
