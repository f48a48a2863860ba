"""A slice view of 3D Slicer drawn off screen: Slicer's own slice logic and displayable managers, on EGL.

What Slicer adds in its windows is the actor that shows the slice; here it is VTK's.
"""

import os

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # read when a window is made

import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

_MANAGERS = "vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLMarkupsDisplayableManager"


class SliceView:
    """The axial view "Red" of a scene, in which a pixel of a radiograph covers ``zoom`` x ``zoom`` of the screen."""

    def __init__(self, scene, application):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application)
        for name in _MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        application.SetSliceLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application)
        self._logic.SetMRMLScene(scene)
        application.GetSliceLogics().AddItem(self._logic)
        self._node = self._logic.AddSliceNode("Red")
        self._node.SetOrientation("Axial")
        self._renderer, self._window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(factory, self._renderer)
        self._managers.SetMRMLDisplayableNode(self._node)
        self._slice = vtk.vtkActor2D()
        self._slice.SetMapper(vtk.vtkImageMapper())
        self._slice.GetMapper().SetColorWindow(255)
        self._slice.GetMapper().SetColorLevel(127.5)
        self._slice.GetProperty().SetDisplayLocationToBackground()

    def draw(self, shape, steps, volume=None, zoom=4):
        """Draw the plane of a radiograph whose first pixel lies at the origin.

        Parameters
        ----------
        shape
            Rows and columns of the radiograph.
        steps
            Between its rows and between its columns, in mm.
        volume
            What lies behind everything else; None is nothing.

        Returns
        -------
        numpy.ndarray
            (rows, columns, 3) uint8, ``zoom`` times the shape.
        """
        height, width = (side * zoom for side in shape)
        self._window.SetSize(width, height)
        self._node.SetDimensions(width, height, 1)
        self._node.SetFieldOfView(shape[1] * steps[1], shape[0] * steps[0], 1)
        # Slicer samples at the corners of the screen's pixels, left and below: half of one from their centres
        across, down = (shape[1] - 1 + 1 / zoom) / 2, (shape[0] - 1 - 1 / zoom) / 2
        for axis, value in enumerate((-across * steps[1], -down * steps[0], 0)):
            self._node.GetSliceToRAS().SetElement(axis, 3, value)
        self._node.UpdateMatrices()
        self._logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume and volume.GetID())
        self._renderer.RemoveViewProp(self._slice)
        if volume:
            self._slice.GetMapper().SetInputConnection(self._logic.GetImageDataConnection())
            self._renderer.AddViewProp(self._slice)
        self._window.Render()
        taken = vtk.vtkWindowToImageFilter()
        taken.SetInput(self._window)
        taken.ReadFrontBufferOff()
        taken.Update()
        pixels = vtk_to_numpy(taken.GetOutput().GetPointData().GetScalars())
        return pixels.reshape(height, width, 3)[::-1].copy()  # VTK begins at the bottom
