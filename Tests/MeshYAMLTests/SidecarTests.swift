import Base
import MeshModel
import Testing

@testable import MeshYAML

@Suite("Sidecar and EndpointSet, field by field")
struct SidecarTests {
    @Test("every field of a Sidecar reaches the model")
    func everyField() throws {
        let yaml = """
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: {name: cart, namespace: shop}
            spec:
              virtualNodeRef: {name: cart}
              admin: {address: "[::1]:9901"}
              workers: 2
              drainTime: 5s
              exposeReplyDetails: true
              outlierEventLog: {path: /var/log/outliers.json}
              inbound:
              - port: 8080
                bind: "0.0.0.0:15000"
                app: "127.0.0.1:8081"
                appTLS:
                  validation:
                    trust: {file: {certificateChain: /app.pem}}
                    subjectAlternativeNames: {match: {exact: [app.local]}}
                  serverName: cart.local
                  certificate: {file: {certificateChain: /me.pem, privateKey: /me.key}}
              outbound:
                http: {bind: "127.0.0.1:15001"}
                tcp: [{virtualService: {name: db, namespace: back}, port: 5432, bind: "127.0.0.1:15432"}]
              accessLog: {path: /dev/stdout, format: {text: "%PROTOCOL%"}}
              loadBalancing: LEAST_REQUEST
              http2: {maxConcurrentStreams: 50, keepalive: {interval: 1m, timeout: 5s}}
              maxConnectionAge: 1h
              zone: b
              certificates: [{arn: "arn:c", certificateChain: /c.pem, privateKey: /k.pem}]
              authorities: [{arn: "arn:a", certificateChain: /a.pem}]
            """
        let result = Manifests.load(("app.yaml", yaml))
        #expect(result.diagnostics.filter { $0.severity == .error } == [])
        #expect(
            result.resources.sidecars.first
                == Sidecar(
                    meta: ResourceMeta(name: "cart", namespace: "shop"), subject: .virtualNode(ObjectReference(name: "cart")),
                    adminAddress: SocketAddress("[::1]:9901"), workers: 2, drainTime: .seconds(5), exposeReplyDetails: true,
                    outlierEventLogPath: "/var/log/outliers.json",
                    inbound: [
                        Sidecar.Inbound(
                            port: 8080, bind: SocketAddress("0.0.0.0:15000"), app: SocketAddress("127.0.0.1:8081"),
                            appTLS: Sidecar.AppTLS(
                                validation: PeerValidation(
                                    trust: .file(certificateChain: "/app.pem"), subjectAlternativeNames: ["app.local"]),
                                serverName: "cart.local", certificate: .file(certificateChain: "/me.pem", privateKey: "/me.key")))
                    ],
                    outboundHTTP: SocketAddress("127.0.0.1:15001"),
                    outboundTCP: [
                        Sidecar.OutboundTCP(
                            virtualService: ObjectReference(name: "db", namespace: "back"), port: 5432,
                            bind: try #require(SocketAddress("127.0.0.1:15432")))
                    ],
                    accessLog: AccessLogFile(path: "/dev/stdout", format: .text("%PROTOCOL%")), loadBalancing: .leastRequest,
                    maxConcurrentStreams: 50, keepalive: Sidecar.Keepalive(interval: .seconds(60), timeout: .seconds(5)),
                    maxConnectionAge: .seconds(3600), zone: "b",
                    certificates: [Sidecar.Certificate(arn: "arn:c", certificateChain: "/c.pem", privateKey: "/k.pem")],
                    authorities: [Sidecar.Authority(arn: "arn:a", certificateChain: "/a.pem")]))
    }

    private static let address = "expected an IP address and a port, such as 127.0.0.1:8080 or \"[::1]:8080\""
    private static let bind = "expected an IP address and a port, such as 0.0.0.0:15000 or \"[::]:15000\""

    @Test(
        "limits and alternatives of a Sidecar",
        arguments: [
            ("admin: {address: \"127.0.0.1:0\"}", nil),
            ("exposeReplyDetails: yes", nil),
            ("workers: 0", ".workers: expected an integer from 1 through 64, found 0"),
            ("workers: 65", ".workers: expected an integer from 1 through 64, found 65"),
            ("admin: {address: localhost}", ".admin.address: \(bind), found localhost"),
            ("admin: {}", ".admin.address: \(bind) (required), found nothing"),
            ("exposeReplyDetails: \"yes\"", ".exposeReplyDetails: expected true or false, found the string \"yes\""),
            ("inbound: [{app: \"127.0.0.1:80\"}]", ".inbound[0].port: expected a port from 1 through 65535 (required), found nothing"),
            ("inbound: [{port: 80, app: \"127.0.0.1:0\"}]", ".inbound[0].app: \(address), found the string \"127.0.0.1:0\""),
            ("inbound: [{port: 80, bind: \"80\"}]", ".inbound[0].bind: \(bind), found the string \"80\""),
            ("inbound: [{port: 80, appTLS: {}}]", nil),
            (
                "inbound: [{port: 80, appTLS: {validation: {trust: {}}}}]",
                ".inbound[0].appTLS.validation.trust: expected exactly one of file, sds, found none"
            ),
            (
                "inbound: [{port: 80, appTLS: {validation: {}}}]",
                ".inbound[0].appTLS.validation.trust: expected a mapping (required), found nothing"
            ),
            (
                "inbound: [{port: 80, appTLS: {certificate: {file: {certificateChain: /c}}}}]",
                ".inbound[0].appTLS.certificate.file.privateKey: expected a string of 1 through 255 characters (required), found nothing"
            ),
            ("http2: {maxConcurrentStreams: 0}", ".http2.maxConcurrentStreams: expected an integer from 1 through 2147483647, found 0"),
            ("http2: {keepalive: {interval: 0s}}", nil),
            ("http2: {keepalive: {interval: 10ms}}", ".http2.keepalive.interval: expected 0s (none) or at least 1s, found 10ms"),
            ("http2: {keepalive: {interval: 1s, timeout: 0s}}", ".http2.keepalive.timeout: expected at least 1ms, found 0s"),
            (
                "http2: {keepalive: {timeout: 1s}}",
                ".http2.keepalive.interval: expected a duration such as 30s or {unit: s, value: 30} (required), found nothing"
            ),
            ("maxConnectionAge: 0s", nil),
            ("maxConnectionAge: 10ms", ".maxConnectionAge: expected 0s (none) or at least 1s, found 10ms"),
            ("outbound: {tcp: [{bind: \"127.0.0.1:1\"}]}", ".outbound.tcp[0].virtualService: expected a mapping (required), found nothing"),
            ("outbound: {tcp: [{virtualService: {name: a}}]}", ".outbound.tcp[0].bind: \(bind) (required), found nothing"),
            ("loadBalancing: RING_HASH", ".loadBalancing: expected one of ROUND_ROBIN, LEAST_REQUEST, RANDOM, found RING_HASH"),
            (
                "certificates: [{arn: a, privateKey: b}]",
                ".certificates[0].certificateChain: expected a string of 1 through 255 characters (required), found nothing"
            ),
            ("outlierEventLog: {}", ".outlierEventLog.path: expected a string of 1 through 255 characters (required), found nothing"),
            (
                "virtualGatewayRef: {name: b}",
                ": expected only one of virtualNodeRef, virtualGatewayRef, found virtualNodeRef and virtualGatewayRef"
            ),
        ] as [(String, String?)])
    func sidecar(text: String, expected: String?) {
        #expect(Manifests.problems(.sidecar, "virtualNodeRef: {name: a}\n" + text) == (expected.map { ["spec" + $0] } ?? []))
    }

    @Test("a Sidecar belongs to a node or a gateway")
    func subject() {
        #expect(
            Manifests.problems(.sidecar, "workers: 1") == ["spec: expected exactly one of virtualNodeRef, virtualGatewayRef, found none"])
    }

    @Test("addresses, alone or with their port")
    func addresses() throws {
        let yaml = """
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: {name: a}
            spec:
              virtualNodeRef: {name: n, namespace: other}
              endpoints:
              - {address: 10.0.0.1}
              - {address: "10.0.0.2:81", weight: 128, zone: eu-west-1a}
              - {address: "::1", port: 82}
              - {address: "[::2]:83"}
            """
        let result = Manifests.load(("app.yaml", yaml))
        #expect(result.diagnostics.filter { $0.severity == .error } == [])
        let set = try #require(result.resources.endpointSets.first)
        #expect(set.virtualNode == ObjectReference(name: "n", namespace: "other"))
        #expect(
            set.endpoints == [
                EndpointSet.Endpoint(ip: .v4(0x0a00_0001)),
                EndpointSet.Endpoint(ip: .v4(0x0a00_0002), port: 81, weight: 128, zone: "eu-west-1a"),
                EndpointSet.Endpoint(ip: .v6(0, 1), port: 82), EndpointSet.Endpoint(ip: .v6(0, 2), port: 83),
            ])
    }

    private static let endpoint = "expected an IP address, alone or with a port (for a host name use serviceDiscovery.dns)"

    @Test(
        "limits of an EndpointSet",
        arguments: [
            ("endpoints: []", ".endpoints: expected a list of 1 through 1000, found 0"),
            ("zone: a", ".endpoints: expected a list of 1 through 1000 (required), found nothing"),
            ("endpoints: [{}]", ".endpoints[0].address: \(endpoint) (required), found nothing"),
            ("endpoints: [{address: cart.example}]", ".endpoints[0].address: \(endpoint), found cart.example"),
            ("endpoints: [{address: \"10.0.0.1:0\"}]", ".endpoints[0].address: \(endpoint), found the string \"10.0.0.1:0\""),
            ("endpoints: [{address: \"10.0.0.1:80\", port: 80}]", ".endpoints[0].port: the address has a port of its own; give it once"),
            ("endpoints: [{address: 10.0.0.1, weight: 0}]", ".endpoints[0].weight: expected an integer from 1 through 128, found 0"),
            ("endpoints: [{address: 10.0.0.1, weight: 129}]", ".endpoints[0].weight: expected an integer from 1 through 128, found 129"),
            ("endpoints: [{address: 10.0.0.1, port: 65536}]", ".endpoints[0].port: expected a port from 1 through 65535, found 65536"),
        ] as [(String, String)])
    func endpoints(text: String, expected: String) {
        let problems = Manifests.problems(.endpointSet, "virtualNodeRef: {name: a}\n" + text)
        #expect(problems.filter { !$0.contains("unknown field") } == ["spec" + expected])
    }

    @Test("a thousand endpoints are enough")
    func tooManyEndpoints() {
        let endpoints = (0...1000).map { "{address: 10.0.\($0 / 250).\($0 % 250)}" }.joined(separator: ", ")
        #expect(
            Manifests.problems(.endpointSet, "virtualNodeRef: {name: a}\nendpoints: [\(endpoints)]") == [
                "spec.endpoints: expected a list of 1 through 1000, found 1001"
            ])
    }
}
