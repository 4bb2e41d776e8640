import Base
import MeshCompiler
import MeshModel
import MeshYAML
import Projections
import ProxyConfig
import Reactor
import Testing

@testable import Daemon

@Suite("What each proxy shall run")
struct PublisherTests {
    private static let text = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: front, namespace: shop}
        spec:
          backends: [{virtualService: {virtualServiceRef: {name: cart}}}]
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: {name: cart, namespace: shop}
        spec: {provider: {virtualNode: {virtualNodeRef: {name: cart}}}}
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: cart, namespace: shop}
        spec:
          listeners: [{portMapping: {port: 8080, protocol: http}}]
          serviceDiscovery: {dns: {hostname: cart.example}}
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: lonely, namespace: shop}
        spec: {}
        """
    private static let cart = MeshModel.ResourceKey(kind: .virtualNode, namespace: "shop", name: "cart")

    private func target(_ name: String) -> Publisher.Target {
        Publisher.Target(
            subject: .virtualNode(.init(kind: .virtualNode, namespace: "shop", name: name)), hostAddress: nil, edition: .current)
    }

    private func settle(_ loop: EventLoop, _ publisher: Publisher) {
        while !publisher.isSettled { loop.turn(maximumWait: .seconds(10)) }
    }

    @Test("a change reaches those whose configuration it changes; the same again reaches nobody")
    func changes() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        var changed: [Set<Publisher.Target>] = []
        publisher.onChange = { changed.append($0) }
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: Self.text).resources)
        let (front, lonely) = (target("front"), target("lonely"))
        publisher.retain(front)
        publisher.retain(lonely)
        settle(loop, publisher)
        #expect(changed.reduce([]) { $0.union($1) } == [front, lonely])
        let version = try #require(publisher.configuration(front)?.version)

        changed = []
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: "# a remark\n" + Self.text).resources)
        settle(loop, publisher)
        #expect(changed.isEmpty)

        publisher.setMesh(
            MeshLoader.load(paths: ["-"], standardInput: Self.text.replacing("cart.example", with: "other.example")).resources)
        settle(loop, publisher)
        #expect(changed == [[front]])
        #expect(publisher.configuration(front)?.version != version)
    }

    @Test("registered proxies are endpoints; one that comes or goes reaches those that call it, without compiling")
    func endpoints() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        var proxies: [Publisher.RegisteredEndpoint] = []
        publisher.endpoints = { _ in proxies }
        var changed: [Set<Publisher.Target>] = []
        publisher.onChange = { changed.append($0) }
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: Self.text).resources)
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        let (front, lonely) = (target("front"), target("lonely"))
        publisher.retain(front)
        publisher.retain(lonely)
        settle(loop, publisher)
        let compilations = publisher.compilations
        func addresses() -> [String] {
            let assignments = publisher.configuration(front)?.snapshot.loadAssignments ?? []
            return assignments.flatMap(\.localities).flatMap(\.endpoints).map { endpoint in
                if case .ip(let ip) = endpoint.host { "\(ip):\(endpoint.port)" } else { "?" }
            }
        }
        #expect(addresses() == [])

        changed = []
        proxies = ["10.0.0.1", "10.0.0.2"].map { .init(address: IPAddress($0)!, ports: [8080: 15000], zone: "") }
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        #expect(changed == [[front]])
        #expect(addresses() == ["10.0.0.1:15000", "10.0.0.2:15000"])
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        #expect(changed.count == 1)
        proxies.removeFirst()
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        #expect(addresses() == ["10.0.0.2:15000"])
        #expect(publisher.compilations == compilations)
    }

    @Test("the first proxy of a node, and the last, change what its callers have, also while they are being compiled")
    func firstAndLast() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        publisher.endpoints = { _ in [.init(address: IPAddress("10.0.0.1")!, ports: [8080: 15000], zone: "")] }
        var changed: [Set<Publisher.Target>] = []
        publisher.onChange = { changed.append($0) }
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: Self.text).resources)
        let (front, lonely) = (target("front"), target("lonely"))
        publisher.retain(front)
        publisher.retain(lonely)
        // The compiler is at work with what was before.
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        settle(loop, publisher)
        func endpoints() -> Int? { publisher.configuration(front)?.snapshot.loadAssignments.flatMap(\.localities).count }
        #expect(endpoints() == 1)

        changed = []
        publisher.endpointsChanged(of: [Self.cart], registered: [])
        settle(loop, publisher)
        // Its cluster is found by DNS again.
        #expect(changed == [[front]] && endpoints() == 0)
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        settle(loop, publisher)
        #expect(changed == [[front], [front]] && endpoints() == 1)
        publisher.release(front)
        publisher.endpointsChanged(of: [Self.cart], registered: [])
        #expect(publisher.isSettled)
    }

    @Test("only those whom a change may concern are compiled again")
    func compilesWhatIsConcerned() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        var changed: [Set<Publisher.Target>] = []
        publisher.onChange = { changed.append($0) }
        var mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        publisher.setMesh(mesh)
        let (front, lonely) = (target("front"), target("lonely"))
        publisher.retain(front)
        publisher.retain(lonely)
        settle(loop, publisher)
        #expect(publisher.compilations == 2)

        changed = []
        var cart = try #require(mesh.virtualNodes[Self.cart])
        cart.serviceDiscovery = .dns(.init(hostname: "other.example"))
        mesh.insert(.virtualNode(cart))
        publisher.setMesh(mesh)
        settle(loop, publisher)
        #expect(publisher.compilations == 3 && changed == [[front]])

        // Another state comes while the one before is compiled.
        for name in ["one.example", "two.example"] {
            cart.serviceDiscovery = .dns(.init(hostname: name))
            mesh.insert(.virtualNode(cart))
            publisher.setMesh(mesh)
        }
        settle(loop, publisher)
        let names = publisher.configuration(front)?.snapshot.clusters.map { "\($0.discovery)" } ?? []
        #expect(names.contains { $0.contains("two.example") } && !names.contains { $0.contains("one.example") })

        mesh.insert(.virtualService(VirtualService(meta: ResourceMeta(name: "nobody", namespace: "shop"))))
        let before = publisher.compilations
        publisher.setMesh(mesh)
        settle(loop, publisher)
        #expect(publisher.compilations == before)
    }

    @Test("who goes and comes back while the compiler is at work gets a configuration")
    func comesBack() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        var mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        publisher.setMesh(mesh)
        let front = target("front")
        publisher.retain(front)
        settle(loop, publisher)
        mesh.insert(.virtualService(VirtualService(meta: ResourceMeta(name: "nobody", namespace: "shop"))))
        publisher.setMesh(mesh)
        publisher.release(front)
        publisher.retain(front)
        settle(loop, publisher)
        #expect(publisher.configuration(front) != nil)
    }

    @Test("where a node's proxies listen is what its callers get, also when only that has changed")
    func movedListener() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        publisher.endpoints = { [unowned publisher] node in
            let subject = MeshCompiler.Subject(node)!
            return [.init(address: IPAddress("10.0.0.1")!, ports: publisher.inboundPorts(of: subject) ?? [:], zone: "")]
        }
        var mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        publisher.setMesh(mesh)
        publisher.endpointsChanged(of: [Self.cart], registered: [Self.cart])
        let front = target("front")
        publisher.retain(front)
        publisher.retain(target("cart"))
        settle(loop, publisher)
        func ports() -> [Port] {
            publisher.configuration(front)?.snapshot.loadAssignments.flatMap(\.localities).flatMap(\.endpoints).map(\.port) ?? []
        }
        #expect(ports() == [15000])

        let sidecar = """
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: {name: cart, namespace: shop}
            spec: {virtualNodeRef: {name: cart}, inbound: [{port: 8080, bind: '0.0.0.0:7000'}]}
            """
        for resource in MeshLoader.load(paths: ["-"], standardInput: sidecar).resources.all { mesh.insert(resource) }
        publisher.setMesh(mesh)
        settle(loop, publisher)
        #expect(ports() == [7000])
    }

    @Test("a node that cannot be compiled keeps what it has, and the fault is known")
    func faults() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: Self.text).resources)
        let front = target("front")
        publisher.retain(front)
        settle(loop, publisher)
        let before = try #require(publisher.configuration(front)?.version)
        publisher.setMesh(MeshResources())
        settle(loop, publisher)
        #expect(publisher.configuration(front)?.version == before)
        #expect(publisher.faults.map(\.target) == [front])
        publisher.release(front)
        #expect(publisher.faults.isEmpty && publisher.configuration(front) == nil)
    }

    @Test("editions: who is not reached yet keeps the mesh of before")
    func editions() throws {
        let loop = EventLoop()
        let publisher = Publisher(compiler: try Workshop(name: "test", loop: loop))
        let mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        publisher.setMesh(mesh, .previous)
        publisher.setMesh(MeshLoader.load(paths: ["-"], standardInput: Self.text.replacing("cart.example", with: "new.example")).resources)
        let front = target("front")
        var old = front
        old.edition = .previous
        publisher.retain(front)
        publisher.retain(old)
        settle(loop, publisher)
        #expect(publisher.configuration(front)?.version != publisher.configuration(old)?.version)
    }
}
